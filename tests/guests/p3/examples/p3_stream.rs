//! Streams `?chunks=` pieces of `?size=` bytes, `?delay_ms=` apart: the first of `a`, the second
//! of `b` and so on. Trailer `x-chunks`: how many the host took. `?chunks=0` never ends. `?set=NAME:VALUE`
//! (several times) sets fields of the head.

use guests_p3::{
    Answer, Request, Response, fields, number, parameters, spawn_local, wit_future, wit_stream,
};
use wasip3::clocks::monotonic_clock;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let chunks = match number(&request, "chunks", 10) {
        0 => u64::MAX,
        chunks => chunks,
    };
    let size = number(&request, "size", 10) as usize;
    let delay_ns = number(&request, "delay_ms", 0) * 1_000_000;
    let (mut writer, reader) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let set = parameters(&request, "set");
    let set = set.iter().map(|field| field.split_once(':').expect("NAME:VALUE"));
    let set: Vec<_> = set.collect();
    let typed = set.iter().any(|(name, _)| *name == "content-type");
    let usual = [("content-type", "application/octet-stream")];
    let head = fields(&[&usual[usize::from(typed)..], &set].concat());
    let (response, _) = Response::new(head, Some(reader), trailers);
    spawn_local(async move {
        let mut taken = 0;
        while taken < chunks {
            let chunk = vec![b'a' + (taken % 26) as u8; size];
            if !writer.write_all(chunk).await.is_empty() {
                println!("p3_stream: the reader left after {taken} chunks");
                break;
            }
            taken += 1;
            if delay_ns > 0 && taken < chunks {
                monotonic_clock::wait_for(delay_ns).await;
            }
        }
        drop(writer);
        let trailers = fields(&[("x-chunks", &taken.to_string())]);
        let _ = end.write(Ok(Some(trailers))).await;
    });
    Ok(response)
}
