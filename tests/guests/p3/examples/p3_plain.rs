//! Fourteen bytes and a look at the path: what the speed of other servers is measured with.

use guests_p3::{Answer, Fields, Request, answer};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let is_known = request.get_path_with_query().is_some_and(|target| target.starts_with('/'));
    answer(if is_known { 200 } else { 404 }, Fields::new(), b"Hello, World!\n")
}
