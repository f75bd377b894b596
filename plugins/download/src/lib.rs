//! The sample plugin for files: uploads that are written as they arrive, and files that the host
//! sends, whole and in ranges. Routes only; a file a topic.

mod builtin;
mod kept;
mod multipart;
mod name;
mod page;
mod send;
mod upload;

use wharf_sdk::Router;

fn routes() -> Router {
    Router::new()
        .get("/downloads", page::downloads)
        .get("/download", send::list)
        .post("/download", upload::post)
        .get("/download/{id}", send::file)
        .delete("/download/{id}", send::delete)
        .get("/download/limited", send::limited)
        .get("/stream-video/{id}", send::video)
        .post("/api/upload/{name}", upload::post_named)
}

wharf_sdk::serve!(routes);

#[cfg(test)]
mod testing {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::{Body, Method, Request, Response};

    use super::routes;

    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    pub(crate) fn answer(method: Method, uri: &str, body: impl Into<Body>) -> Response {
        block_on(routes().handle(Request::new(method, uri, body).unwrap()))
    }

    /// A folder that goes when the test does.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("wharf-download-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
