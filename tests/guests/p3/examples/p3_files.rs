//! Files by `std::fs` (which is `wasi:filesystem` 0.2 below): `?op=read|write|list&path=`, where
//! `write` takes `?content=`. `?op=preopens` lists the folders granted, by 0.3. Errors are 500.

use guests_p3::{Answer, Fields, Request, answer, parameter, text};
use wasip3::filesystem::preopens;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let parameter = |name| parameter(&request, name).unwrap_or_default();
    let path = parameter("path");
    let outcome = match parameter("op").as_str() {
        "preopens" => Ok(granted().join("\n")),
        "list" => list(&path),
        "read" => std::fs::read_to_string(&path),
        "write" => std::fs::write(&path, parameter("content")).map(|()| "written".to_owned()),
        op => return answer(400, Fields::new(), format!("unknown op {op:?}")),
    };
    match outcome {
        Ok(content) => text(content),
        Err(error) => answer(500, Fields::new(), format!("error: {error}")),
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
