//! Prints: `/flood` for ever, `/much` 50 MB before it answers, `/line` one line.

use std::io::Write;

use guests_p3::{Answer, Request, path, text};

guests_p3::serve!(handle);

const LINE: &str = "hostile_flood_output fills the log with this line, and it never has enough\n";

async fn handle(request: Request) -> Answer {
    let mut stdout = std::io::stdout();
    let block = LINE.repeat(1000);
    match path(&request).as_str() {
        "/flood" => loop {
            let _ = stdout.write_all(block.as_bytes());
        },
        "/much" => {
            let mut printed = 0;
            while printed < 50_000_000 {
                let _ = stdout.write_all(block.as_bytes());
                printed += block.len();
            }
            text("printed much")
        }
        "/line" => {
            println!("one line from hostile_flood_output");
            eprintln!("one line of errors from hostile_flood_output");
            text("printed a line")
        }
        _ => text("ok"),
    }
}
