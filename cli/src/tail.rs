// SPDX-License-Identifier: Apache-2.0
//! `highwater tail TOPIC`.

use std::io::Write;

use highwater_core::{Error, ErrorKind, Result};
use highwater_runtime::control::Request;
use highwater_runtime::tail::{Tail, TailEvent, TailRequest};
use serde_json::Value;

use crate::args::TailArgs;
use crate::reach::{client, open};

/// Prints events until the end that was agreed, Ctrl-C, or a closed pipe.
pub async fn tail(args: TailArgs) -> Result<()> {
    let request = TailRequest {
        topic: args.topic.clone(),
        from_beginning: args.from_beginning,
        max: args.max,
        until_end: args.until_end,
    };
    let json = args.reach.json;
    let Some(opened) = open(&args.reach).await? else {
        let client = client(&args.reach)?;
        let request = Request::Tail(request);
        let shown = client.ask(&request, |item| {
            let event = serde_json::from_value(item).map_err(|error| {
                Error::new(ErrorKind::CorruptMessage, "the pipeline sent no event").with_source(error)
            })?;
            Ok(print(&event, json))
        });
        return shown.await.map(drop);
    };
    let mut tail = Tail::open(&*opened.transport, opened.registry, opened.format, &request).await?;
    while let Some(event) = tail.next().await? {
        if !print(&event, json) {
            break;
        }
    }
    Ok(())
}

/// `false`: nobody reads on.
fn print(event: &TailEvent, json: bool) -> bool {
    let line = if json {
        serde_json::to_string(event).unwrap_or_default()
    } else {
        text(event)
    };
    writeln!(std::io::stdout().lock(), "{line}").is_ok()
}

/// An event in one line: what happened, to which key, and the row before and after.
pub fn text(event: &TailEvent) -> String {
    let key = event.key.as_ref().map_or("-".to_owned(), plain);
    let Some(value) = &event.value else {
        return format!("tombstone {key}");
    };
    let part = |name: &str| value.get(name).filter(|part| !part.is_null());
    let what = match part("op").and_then(Value::as_str) {
        Some("c") => "create",
        Some("u") => "update",
        Some("d") => "delete",
        Some("r") => "read",
        Some("t") => "truncate",
        _ => return format!("{key} {}", plain(value)),
    };
    let mut line = format!("{what:<8} {key}");
    if let Some(before) = part("before") {
        line.push_str(&format!("  before {}", plain(before)));
    }
    if let Some(after) = part("after") {
        line.push_str(&format!("  after {}", plain(after)));
    }
    if !event.unchanged.is_empty() {
        line.push_str(&format!("  unchanged {}", event.unchanged.join(",")));
    }
    line
}

/// An object as `{name: value, …}` without control characters.
fn plain(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(value: Option<Value>) -> TailEvent {
        TailEvent {
            topic: "shop.public.movies".to_owned(),
            partition: 0,
            offset: 7,
            timestamp_ms: 0,
            key: Some(json!({ "id": 1 })),
            value,
            unchanged: Vec::new(),
        }
    }

    #[test]
    fn an_event_reads_as_one_line() {
        let update = json!({ "op": "u", "before": null, "after": { "id": 1, "title": "a\nb" }, "source": {} });
        assert_eq!(
            text(&event(Some(update))),
            r#"update   {id: 1}  after {id: 1, title: "a\nb"}"#
        );
        assert_eq!(text(&event(None)), "tombstone {id: 1}");
    }
}
