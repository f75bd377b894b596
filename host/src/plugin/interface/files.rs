//! `wharf:host/files`: files of granted folders as responses that the host sends.

use http::{HeaderValue, Response, response};
use wasmtime::component::Resource;
use wasmtime_wasi::WasiView;

use super::bindings::wharf::host::files::{
    DispositionKind, ErrorCode, FileError, Host, ReplyOptions,
};
use super::exchange::OpenExchange;
use crate::files::{Deletion, Links, OpenError};
use crate::http::body::ResponseBody;
use crate::http::disposition::{Disposition, content_disposition};
use crate::http::file_reply::{FileReply, Source};
use crate::plugin::manifest::FileGrant;
use crate::plugin::reply::Held;
use crate::plugin::state::HostState;

impl Held for FileReply {
    fn respond(self: Box<Self>, head: response::Parts) -> Response<ResponseBody> {
        Self::respond(*self, head)
    }
}

impl Host for HostState {
    async fn reply(
        &mut self,
        exchange: Resource<OpenExchange>,
        path: String,
        options: ReplyOptions,
    ) -> wasmtime::Result<Result<String, FileError>> {
        let exchange = self.ctx().table.get(&exchange)?.exchange().clone();
        let environment = self.environment.clone();
        let grants = &environment.manifest.capabilities.files;
        let source = match source(grants, &path, &options) {
            Ok(source) => source,
            Err(error) => return Ok(Err(error)),
        };
        let readers = environment.services.readers.clone();
        let reply = match source.open(&exchange.wanted, readers).await {
            Ok(reply) => reply,
            Err(error) => return Ok(Err(open_error(&path, &error))),
        };
        let kept = exchange.replies.keep(Box::new(reply));
        Ok(kept
            .map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned())
            .map_err(|_| fault(ErrorCode::TooMany, &path, "too many replies, or one too late")))
    }
}

fn fault(code: ErrorCode, path: &str, what: &str) -> FileError {
    FileError { code, message: format!("`{}`: {what}", path.escape_debug()) }
}

/// What the guest asks for, as far as that can be told without looking at the folder.
fn source(grants: &[FileGrant], path: &str, options: &ReplyOptions) -> Result<Source, FileError> {
    let invalid = |what| Err(fault(ErrorCode::Invalid, path, what));
    let Some((folder, below)) = path.split_once('/') else {
        return invalid("the path is a granted folder's name, `/` and a path in it");
    };
    let Some(grant) = grants.iter().find(|grant| grant.guest == folder) else {
        if matches!(folder, "" | "." | "..") {
            return invalid("the path begins with a granted folder's name");
        }
        let what = "the manifest grants no folder of that name";
        return Err(fault(ErrorCode::NotGranted, path, what));
    };
    if options.once && !grant.write {
        let what = "`once` deletes the file, and the folder is granted \"r\"";
        return Err(fault(ErrorCode::NotGranted, path, what));
    }
    let content_type = match options.content_type.as_deref().map(HeaderValue::from_str) {
        None => None,
        Some(Ok(value)) if !value.is_empty() => Some(value),
        Some(_) => return invalid("the content type cannot stand in a header"),
    };
    let disposition = options.disposition.as_ref().map(|disposition| {
        let kind = match disposition.kind {
            DispositionKind::Inline => Disposition::Inline,
            DispositionKind::Attachment => Disposition::Attachment,
        };
        content_disposition(kind, disposition.name.as_deref().unwrap_or(below))
    });
    Ok(Source {
        folder: grant.host.clone(),
        path: below.to_owned(),
        links: if options.once { Links::Refused } else { Links::Beneath },
        content_type,
        disposition,
        deletion: options
            .once
            .then(|| Deletion { folder: grant.host.clone(), path: below.to_owned() }),
        precompressed: options.precompressed,
    })
}

fn open_error(path: &str, error: &OpenError) -> FileError {
    let code = match error {
        OpenError::Path | OpenError::Link => ErrorCode::Invalid,
        OpenError::NotFound | OpenError::Outside => ErrorCode::NotFound,
        OpenError::Folder | OpenError::NotRegular => ErrorCode::NotAFile,
        OpenError::Io(_) => ErrorCode::Unreadable,
    };
    // Whether there is something at the end of a link that leads out is nobody's business.
    fault(code, path, &error.to_string())
}
