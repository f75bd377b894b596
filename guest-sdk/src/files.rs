//! Files of granted folders as responses that the host sends: [`reply`].
//!
//! ```no_run
//! use wharf_sdk::{Error, Request, Response, files};
//!
//! async fn download(request: Request) -> Result<Response, Error> {
//!     let path = format!("data/{}", request.param("id")?);
//!     Ok(files::reply(&request, &path).attachment("report.pdf").send()?)
//! }
//! ```
//!
//! The host answers ranges (RFC 9110 §14) and conditions (§13), and the bytes do not pass the plugin,
//! whose instance is free as soon as it has answered.

use std::fmt;

use http::{HeaderValue, StatusCode};

use crate::{Request, Response};

/// The header that names the reply to the host.
#[cfg(target_family = "wasm")]
const REPLY_HEADER: http::HeaderName = http::HeaderName::from_static("wharf-reply");

/// Begins a response to `request` that is the file `path`: a granted folder's name and a path in it,
/// as in `data/videos/a.mp4`.
pub fn reply<'a>(request: &'a Request, path: &'a str) -> Reply<'a> {
    Reply {
        request,
        path,
        content_type: None,
        disposition: None,
        once: false,
        precompressed: false,
    }
}

/// A file that is about to be sent.
#[derive(Debug)]
#[must_use = "nothing is sent before `send` makes it a response"]
pub struct Reply<'a> {
    request: &'a Request,
    path: &'a str,
    content_type: Option<&'a str>,
    disposition: Option<(Disposition, Option<&'a str>)>,
    once: bool,
    precompressed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    Inline,
    Attachment,
}

impl<'a> Reply<'a> {
    /// `Content-Type`, in place of what the extension stands for.
    pub fn content_type(mut self, value: &'a str) -> Self {
        self.content_type = Some(value);
        self
    }

    /// Browsers save the file as `name`, which may have any characters (RFC 6266, RFC 8187).
    pub fn attachment(mut self, name: &'a str) -> Self {
        self.disposition = Some((Disposition::Attachment, Some(name)));
        self
    }

    /// Browsers show the file, and save it as `name`.
    pub fn inline(mut self, name: &'a str) -> Self {
        self.disposition = Some((Disposition::Inline, Some(name)));
        self
    }

    /// Deletes the file when all of it was sent, as the 200 to a GET: not after a part, a 304 or HEAD,
    /// nor when the client leaves. Needs a folder that is granted `"rw"`.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Sends `PATH.br`, `PATH.zst` or `PATH.gz` in its place where there is one and the client
    /// prefers it.
    pub fn precompressed(mut self) -> Self {
        self.precompressed = true;
        self
    }

    /// The response: 200 without fields of its own. Fields and status that are set on it are kept.
    ///
    /// # Errors
    /// Why the file cannot be sent; as an [`Error`](crate::Error), 404 where there is no such file. Natively, and on
    /// other hosts than Wharf, always.
    pub fn send(self) -> Result<Response, FileError> {
        let token = self.token()?;
        let mut response = Response::new(());
        #[cfg(target_family = "wasm")]
        response.headers_mut().insert(REPLY_HEADER, token);
        #[cfg(not(target_family = "wasm"))]
        response.headers_mut().insert("wharf-reply", token);
        Ok(response)
    }

    #[cfg(target_family = "wasm")]
    fn token(&self) -> Result<HeaderValue, FileError> {
        use crate::bindings::wharf::host::files as bindings;
        let Some(exchange) = self.request.exchange() else { return Err(self.without_host()) };
        let options = bindings::ReplyOptions {
            content_type: self.content_type.map(str::to_owned),
            disposition: self.disposition.map(|(kind, name)| bindings::Disposition {
                kind: match kind {
                    Disposition::Inline => bindings::DispositionKind::Inline,
                    Disposition::Attachment => bindings::DispositionKind::Attachment,
                },
                name: name.map(str::to_owned),
            }),
            once: self.once,
            precompressed: self.precompressed,
        };
        let token = bindings::reply(exchange.inner(), self.path, &options);
        let token = token.map_err(|error| FileError {
            code: match error.code {
                bindings::ErrorCode::NotGranted => ErrorCode::NotGranted,
                bindings::ErrorCode::Invalid => ErrorCode::Invalid,
                bindings::ErrorCode::NotFound => ErrorCode::NotFound,
                bindings::ErrorCode::NotAFile => ErrorCode::NotAFile,
                bindings::ErrorCode::Unreadable => ErrorCode::Unreadable,
                bindings::ErrorCode::TooMany => ErrorCode::TooMany,
            },
            message: error.message,
        })?;
        HeaderValue::from_str(&token).map_err(|_| self.without_host())
    }

    #[cfg(not(target_family = "wasm"))]
    fn token(&self) -> Result<HeaderValue, FileError> {
        let _never_there = self.request.exchange();
        Err(self.without_host())
    }

    fn without_host(&self) -> FileError {
        let message = format!("`{}`: no Wharf host is here to send it", self.path);
        FileError { code: ErrorCode::Unreadable, message }
    }
}

/// What kind of fault a [`FileError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The path begins with no granted folder, or `once` without `"rw"`.
    NotGranted,
    /// The path is not of the form `GRANT/a/b`, or the content type cannot stand in a header.
    Invalid,
    /// There is no such file in the granted folder.
    NotFound,
    /// A folder, pipe, socket or device.
    NotAFile,
    /// The host cannot read it, or there is no host.
    Unreadable,
    /// The exchange is over, or has more than 16 replies that no response has used.
    TooMany,
}

/// Why a file cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// What kind of fault.
    pub code: ErrorCode,
    /// What is wrong, and with which path.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FileError {}

impl FileError {
    /// The status of an [`Error`](crate::Error) that is made of it: 404 where there is no such file,
    /// also under a path that no file can have; else 500.
    pub fn status(&self) -> StatusCode {
        match self.code {
            ErrorCode::Invalid | ErrorCode::NotFound | ErrorCode::NotAFile => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::Error;

    #[test]
    fn without_a_host_the_path_is_named() {
        let request = Request::new(Method::GET, "/", ()).unwrap();

        let error = reply(&request, "data/x").attachment("x").once().send().unwrap_err();

        assert!(error.to_string().contains("data/x"), "{error}");
        assert_eq!(Error::from(error).status(), 500);
    }

    #[test]
    fn a_missing_file_is_404() {
        let message = "`data/x`: there is no such file".to_owned();
        let error = Error::from(FileError { code: ErrorCode::NotFound, message });

        assert_eq!(error.status(), 404);
    }
}
