//! `p3_files` in 0.2: `?op=preopens`, `?op=read|write|list&path=`, `write` takes `?content=`.

use guests_p2::{Fields, IncomingRequest, ResponseOutparam, answer, parameter, text};
use wasip2::filesystem::preopens;

guests_p2::serve!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let parameter = |name| parameter(&request, name).unwrap_or_default();
    let path = parameter("path");
    let outcome = match parameter("op").as_str() {
        "preopens" => Ok(granted().join("\n")),
        "list" => list(&path),
        "read" => std::fs::read_to_string(&path),
        "write" => std::fs::write(&path, parameter("content")).map(|()| "written".to_owned()),
        op => return answer(out, 400, Fields::new(), format!("unknown op {op:?}")),
    };
    match outcome {
        Ok(content) => text(out, content),
        Err(error) => answer(out, 500, Fields::new(), format!("error: {error}")),
    }
}

fn granted() -> Vec<String> {
    let folders = preopens::get_directories();
    folders.into_iter().map(|(_, path)| path).collect()
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join("\n"))
}
