//! `/long`: work that reports its progress and stops when nobody waits for it any more.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use wharf_sdk::exchange::Exchange;
use wharf_sdk::{BodyWriter, Closed, Error, Request, Response};

use crate::reply::live;
use crate::tail::FOLDER;
use crate::wait::wait_attentively;

/// What `/progress` follows through `/logs/tail`, so that one page shows how another was closed.
const JOURNAL: &str = "long.log";
/// The journal begins anew when it is longer.
const MAX_JOURNAL: u64 = 64 << 10;

const STEPS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn long(request: Request) -> Result<Response, Error> {
    let exchange = request.exchange();
    let id = exchange.as_ref().map_or_else(|| "-".to_owned(), Exchange::request_id);
    live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        note(&id, "started");
        let mut step = 0;
        let outcome = report(&mut writer, exchange.as_ref(), PAUSE, &mut step).await;
        match outcome {
            Ok(()) => note(&id, "completed"),
            Err(Closed) => {
                // Standard output is the plugin's log.
                println!("request cancelled");
                note(&id, &format!("request cancelled after step {step} of {STEPS}"));
            }
        }
        Ok(outcome?)
    })
}

async fn report(
    writer: &mut BodyWriter,
    exchange: Option<&Exchange>,
    pause: Duration,
    step: &mut u32,
) -> Result<(), Closed> {
    while *step < STEPS {
        if *step > 0 {
            wait_attentively(exchange, pause).await?;
        }
        *step += 1;
        writer.write(format!("Progress: {}%\n", *step * 100 / STEPS)).await?;
    }
    Ok(())
}

/// Adds a line to the journal. The work does not depend on it: a failure is told and passed over.
fn note(id: &str, what: &str) {
    if let Err(error) = write(Path::new(FOLDER), id, what) {
        eprintln!("cannot write the journal {JOURNAL}: {error}");
    }
}

fn write(folder: &Path, id: &str, what: &str) -> std::io::Result<()> {
    let path = folder.join(JOURNAL);
    let is_long = fs::metadata(&path).is_ok_and(|journal| journal.len() > MAX_JOURNAL);
    let mut options = File::options();
    if is_long {
        options.write(true).truncate(true);
    } else {
        options.append(true);
    }
    // In one write: several requests do this at once.
    options.create(true).open(path)?.write_all(format!("{id} {what}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Body;

    use super::*;
    use crate::testing::pieces;

    #[test]
    fn progress_is_ten_lines_in_ten_pieces() {
        let body = Body::stream(async |mut writer| {
            report(&mut writer, None, Duration::ZERO, &mut 0).await?;
            Ok(())
        });

        let pieces = pieces(Response::new(body));

        assert_eq!(pieces.len(), 10);
        assert_eq!((&*pieces[0], &*pieces[9]), ("Progress: 10%\n", "Progress: 100%\n"));
    }

    #[test]
    fn journal_grows_to_its_bound_and_begins_anew() {
        let folder = std::env::temp_dir().join(format!("wharf-journal-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();

        write(&folder, "a", "started").unwrap();
        write(&folder, "a", "completed").unwrap();
        let two = fs::read_to_string(folder.join(JOURNAL)).unwrap();
        fs::write(folder.join(JOURNAL), vec![b'x'; 65 << 10]).unwrap();
        write(&folder, "b", "started").unwrap();
        let one = fs::read_to_string(folder.join(JOURNAL)).unwrap();
        fs::remove_dir_all(&folder).unwrap();

        assert_eq!(two, "a started\na completed\n");
        assert_eq!(one, "b started\n");
    }
}
