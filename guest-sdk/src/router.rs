//! [`Router`]: from a method and a path to a [`Handler`].
//!
//! Patterns are those of `plugin.toml`: `/posts/{id}` with parameters, a trailing `/*` for
//! everything below, and the most specific pattern wins. HEAD is answered by the GET handler
//! (the host leaves the body out), OPTIONS by the methods there are; an unknown path is 404 and an
//! unserved method 405 with `Allow` (RFC 9110 §15.5.6).

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::body::LocalFuture;
use crate::{Error, IntoResponse, Request, Response};

/// matchit's name for what a trailing `/*` stands for, which is `*` to handlers.
const REST: &str = "__rest";

/// What answers a request: any `async fn(Request)` whose result is [`IntoResponse`].
pub trait Handler: 'static {
    /// Answers `request`.
    fn call(&self, request: Request) -> LocalFuture<Result<Response, Error>>;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + 'static,
    Fut: Future<Output: IntoResponse> + 'static,
{
    fn call(&self, request: Request) -> LocalFuture<Result<Response, Error>> {
        let answer = self(request);
        Box::pin(async move { answer.await.into_response() })
    }
}

/// A plugin's routes.
///
/// ```
/// use wharf_sdk::{Error, Request, Response, Router};
///
/// async fn hello(request: Request) -> Result<Response, Error> {
///     Ok(Response::text(format!("hello {}", request.param("name")?)))
/// }
///
/// let router = Router::new()
///     .get("/hello/{name}", hello)
///     .get("/version", async |_: Request| "1.0");
/// ```
#[derive(Default)]
pub struct Router {
    paths: matchit::Router<usize>,
    /// `/files/*` also stands for `/files/`, which matchit's wildcards do not match. Kept apart,
    /// because a route for exactly `/files/` is more specific.
    roots: matchit::Router<usize>,
    indices: BTreeMap<String, usize>,
    routes: Vec<Methods>,
    fallback: Option<Rc<dyn Handler>>,
}

#[derive(Default)]
struct Methods {
    by_method: Vec<(Method, Rc<dyn Handler>)>,
    any: Option<Rc<dyn Handler>>,
}

impl Router {
    /// A router without routes: everything is 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers GET, and HEAD, at `pattern`.
    ///
    /// # Panics
    ///
    /// On a malformed pattern, or where another pattern has the same shape but other names.
    #[must_use]
    pub fn get(self, pattern: &str, handler: impl Handler) -> Self {
        self.route(Method::GET, pattern, handler)
    }

    /// Answers POST at `pattern`.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn post(self, pattern: &str, handler: impl Handler) -> Self {
        self.route(Method::POST, pattern, handler)
    }

    /// Answers PUT at `pattern`.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn put(self, pattern: &str, handler: impl Handler) -> Self {
        self.route(Method::PUT, pattern, handler)
    }

    /// Answers PATCH at `pattern`.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn patch(self, pattern: &str, handler: impl Handler) -> Self {
        self.route(Method::PATCH, pattern, handler)
    }

    /// Answers DELETE at `pattern`.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn delete(self, pattern: &str, handler: impl Handler) -> Self {
        self.route(Method::DELETE, pattern, handler)
    }

    /// Answers `method` at `pattern`; a later handler for the same pair replaces the earlier.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn route(mut self, method: Method, pattern: &str, handler: impl Handler) -> Self {
        let methods = &mut self.methods_at(pattern).by_method;
        methods.retain(|(served, _)| *served != method);
        methods.push((method, Rc::new(handler)));
        self
    }

    /// Answers every method that has no handler of its own at `pattern`.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn any(mut self, pattern: &str, handler: impl Handler) -> Self {
        self.methods_at(pattern).any = Some(Rc::new(handler));
        self
    }

    /// Answers every path that matches no pattern, in place of 404.
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.fallback = Some(Rc::new(handler));
        self
    }

    /// Answers a request. Errors have become problem documents, and their causes are on stderr.
    ///
    /// Tests call it natively: there is no host in between.
    pub async fn handle(&self, request: Request) -> Response {
        match self.call(request).await {
            Ok(response) => response,
            Err(error) => {
                error.report();
                error.into_response()
            }
        }
    }

    async fn call(&self, mut request: Request) -> Result<Response, Error> {
        let Some((index, params)) = self.find(request.path()) else {
            return match &self.fallback {
                Some(handler) => handler.call(request).await,
                None => Err(Error::not_found().detail("nothing is served at this path")),
            };
        };
        let methods = &self.routes[index];
        let Some(handler) = methods.find(request.method()) else {
            return methods.without_handler(request.method());
        };
        let params = params.ok_or_else(|| Error::bad_request("the path is not UTF-8"))?;
        request.set_params(params);
        handler.call(request).await
    }

    /// The route at `path`, with its parameters unless one of them is not UTF-8.
    #[expect(clippy::type_complexity, reason = "a private pair, taken apart at once")]
    fn find(&self, path: &str) -> Option<(usize, Option<Vec<(String, String)>>)> {
        // Patterns match the path as it was sent, so that `%2F` does not divide it.
        if let Ok(found) = self.paths.at(path) {
            return Some((*found.value, decode(&found.params)));
        }
        let found = self.roots.at(path).ok()?;
        let params = decode(&found.params).map(|mut params| {
            params.push(("*".to_owned(), String::new()));
            params
        });
        Some((*found.value, params))
    }

    fn methods_at(&mut self, pattern: &str) -> &mut Methods {
        let next = self.routes.len();
        let index = *self.indices.entry(pattern.to_owned()).or_insert(next);
        if index == next {
            self.routes.push(Methods::default());
            let inserted = match pattern.strip_suffix("/*") {
                Some(root) => self
                    .paths
                    .insert(format!("{root}/{{*{REST}}}"), index)
                    .and_then(|()| self.roots.insert(format!("{root}/"), index)),
                None => self.paths.insert(pattern, index),
            };
            if let Err(error) = inserted {
                panic!("the pattern {pattern:?} cannot be served: {error}");
            }
        }
        &mut self.routes[index]
    }
}

impl Methods {
    fn find(&self, method: &Method) -> Option<&Rc<dyn Handler>> {
        let of = |wanted: &Method| {
            self.by_method.iter().find(|(served, _)| served == wanted).map(|(_, handler)| handler)
        };
        of(method)
            .or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None })
            .or(self.any.as_ref())
    }

    fn without_handler(&self, method: &Method) -> Result<Response, Error> {
        let allow = self.allow();
        if method == Method::OPTIONS {
            return Response::new(()).with_status(StatusCode::NO_CONTENT).with_header(ALLOW, allow);
        }
        let detail = format!("this path is served with {allow}");
        let allow = HeaderValue::try_from(allow)?;
        Err(Error::new(StatusCode::METHOD_NOT_ALLOWED).detail(detail).header(ALLOW, allow))
    }

    fn allow(&self) -> String {
        let mut names: Vec<&str> =
            self.by_method.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") && !names.contains(&"HEAD") {
            names.push("HEAD");
        }
        if !names.contains(&"OPTIONS") {
            names.push("OPTIONS");
        }
        names.sort_unstable();
        names.join(", ")
    }
}

fn decode(params: &matchit::Params<'_, '_>) -> Option<Vec<(String, String)>> {
    params
        .iter()
        .map(|(name, value)| {
            let value = percent_decode_str(value).decode_utf8().ok()?;
            let name = if name == REST { "*" } else { name };
            Some((name.to_owned(), value.into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    fn names(name: &'static str) -> impl Handler {
        move |request: Request| async move {
            let param = request.param("id").or(request.param("*")).unwrap_or("-").to_owned();
            format!("{name} {param}")
        }
    }

    fn router() -> Router {
        Router::new()
            .get("/", names("root"))
            .get("/posts/{id}", names("post"))
            .put("/posts/{id}", names("put"))
            .get("/posts/latest", names("latest"))
            .any("/files/*", names("files"))
            .get("/files/about", names("about"))
    }

    fn answer(method: Method, path: &str) -> Response {
        block_on(router().handle(Request::new(method, path, ()).unwrap()))
    }

    fn text(method: Method, path: &str) -> String {
        block_on(answer(method, path).body_mut().text(100)).unwrap()
    }

    #[test]
    fn most_specific_pattern_wins() {
        let cases = [
            ("/", "root -"),
            ("/posts/7", "post 7"),
            ("/posts/latest", "latest -"),
            ("/files/about", "about -"),
            ("/files/a/b", "files a/b"),
            ("/files/", "files "),
        ];

        for (path, expected) in cases {
            assert_eq!(text(Method::GET, path), expected, "{path}");
        }
    }

    #[test]
    fn parameters_are_decoded_after_matching() {
        assert_eq!(text(Method::GET, "/posts/a%2Fb%20c"), "post a/b c");
        assert_eq!(answer(Method::GET, "/posts/%FF").status(), 400);
    }

    #[test]
    fn unknown_path_is_404() {
        for path in ["/post", "/posts", "/posts/7/8", "/posts/", "/files"] {
            let response = answer(Method::GET, path);

            assert_eq!(response.status(), 404, "{path}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }

    #[test]
    fn unserved_method_is_405_with_allow() {
        let response = answer(Method::DELETE, "/posts/7");

        assert_eq!(response.status(), 405);
        assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS, PUT"));
    }

    #[test]
    fn head_is_answered_by_get_and_options_by_the_router() {
        let options = answer(Method::OPTIONS, "/posts/7");

        assert_eq!(text(Method::HEAD, "/posts/7"), "post 7");
        assert_eq!(options.status(), 204);
        assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS, PUT"));
    }

    #[test]
    fn any_takes_the_methods_without_a_handler() {
        assert_eq!(text(Method::DELETE, "/files/x"), "files x");
        assert_eq!(text(Method::OPTIONS, "/files/x"), "files x");
    }

    #[test]
    fn fallback_takes_unknown_paths() {
        let router = router().fallback(async |_: Request| (StatusCode::IM_A_TEAPOT, "other"));

        let response = block_on(router.handle(Request::new(Method::GET, "/no", ()).unwrap()));

        assert_eq!(response.status(), 418);
    }

    #[test]
    fn missing_parameter_is_500_without_details() {
        let router = Router::new()
            .get("/{id}", async |request: Request| request.param("name").map(str::to_owned));

        let mut response = block_on(router.handle(Request::new(Method::GET, "/x", ()).unwrap()));
        let body = block_on(response.body_mut().text(1000)).unwrap();

        assert_eq!(response.status(), 500);
        assert!(!body.contains("name"), "{body}");
    }

    #[test]
    #[should_panic(expected = "/{name}")]
    fn patterns_that_collide_are_refused() {
        let _ = Router::new().get("/{id}", names("a")).get("/{name}", names("b"));
    }
}
