//! Scores: short-lived while a game goes on.

use std::time::Duration;

use serde_json::{Map, Value, json};
use wharf_sdk::cache::{self, CacheControl, Purge};
use wharf_sdk::{Error, Request, Response, StatusCode, header};

use crate::document::{id, sent, text};
use crate::store;

const KIND: &str = "game";
const STATUSES: [&str; 3] = ["scheduled", "live", "finished"];

/// `GET /api/sports/{game}/score`.
pub(crate) async fn get(request: Request) -> Result<Response, Error> {
    let game = store::find(KIND, id(&request, "game")?).await?.ok_or_else(Error::not_found)?;
    let control = if game.content.get("status").and_then(Value::as_str) == Some("live") {
        CacheControl::new().max_age(Duration::from_secs(10)).must_revalidate()
    } else {
        CacheControl::new().max_age(Duration::from_secs(3600))
    };
    Response::json(&game.to_value())?.cache(control)?.surrogate_keys([key(&game.id).as_str()])
}

/// `PUT /api/sports/{game}/score` `{"status","home","away","score":{"home","away"}}`: what is not sent stays
/// as it is.
pub(crate) async fn put(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let status = match sent.get("status") {
        None => None,
        Some(status) => {
            let known = STATUSES.into_iter().find(|known| status.as_str() == Some(known));
            let rule = "`status` is \"scheduled\", \"live\" or \"finished\"";
            Some(known.ok_or_else(|| Error::unprocessable(rule).member("field", "status"))?)
        }
    };
    let score = match sent.get("score") {
        None => None,
        Some(score) => {
            let side = |name| score.get(name).and_then(Value::as_u64).filter(|goals| *goals < 1000);
            let (Some(home), Some(away)) = (side("home"), side("away")) else {
                let rule = "`score` is two numbers, `home` and `away`";
                return Err(Error::unprocessable(rule).member("field", "score"));
            };
            Some(json!({ "home": home, "away": away }))
        }
    };
    let mut names = Map::new();
    for side in ["home", "away"] {
        if sent.contains_key(side) {
            names.insert(side.to_owned(), text(&sent, side, 100)?.into());
        }
    }
    let id = id(&request, "game")?;
    let (game, is_new) = store::change(KIND, id, |current| {
        let mut content = match current {
            Some(current) => current.content.clone(),
            None => Map::from_iter([
                ("game".to_owned(), Value::from(id)),
                ("status".to_owned(), Value::from("scheduled")),
                ("home".to_owned(), Value::from("home")),
                ("away".to_owned(), Value::from("away")),
                ("score".to_owned(), json!({ "home": 0, "away": 0 })),
            ]),
        };
        content.extend(names);
        content.extend(status.map(|status| ("status".to_owned(), Value::from(status))));
        content.extend(score.map(|score| ("score".to_owned(), score)));
        Ok(content)
    })
    .await?;
    cache::purge_key(&key(&game.id), Purge::Hard)?;
    Response::json(&game.to_value())?
        .with_status(if is_new { StatusCode::CREATED } else { StatusCode::OK })
        .with_header(header::CACHE_CONTROL, "no-store")
}

fn key(game: &str) -> String {
    format!("game-{game}")
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn scores_are_numbers_and_statuses_known() {
        for body in [
            r#"{"status":"over"}"#,
            r#"{"score":"2:1"}"#,
            r#"{"score":{"home":1}}"#,
            r#"{"score":{"home":-1,"away":0}}"#,
            r#"{"home":""}"#,
        ] {
            let response = answer(Method::PUT, "/api/sports/1/score", body);

            assert_eq!(response.status(), 422, "{body}");
        }
    }
}
