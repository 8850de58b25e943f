//! The machine-readable form: one object a line, its schema named in it. `docs/json.md` describes it.

use serde::Serialize;

use crate::core::account::Account;
use crate::driver::doctor::Examination;
use crate::driver::intention::Intention;
use crate::driver::status::Status;

/// The name and version of the JSON form of an [`Intention`].
const INTENTION: &str = "hareload.intention/1";

/// The name and version of the JSON form of a [`Status`].
const STATUS: &str = "hareload.status/1";

/// The name and version of the JSON form of an [`Examination`].
const DOCTOR: &str = "hareload.doctor/1";

/// An account as one line of JSON.
pub fn account(account: &Account) -> String {
    serde_json::to_string(account).unwrap_or_default()
}

/// What a reload would do, as one line of JSON.
pub fn intention(intention: &Intention) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        would: &'a Intention,
    }
    serde_json::to_string(&Document { schema: INTENTION, would: intention }).unwrap_or_default()
}

/// What is true now, as one line of JSON.
pub fn status(status: &Status) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        #[serde(flatten)]
        status: &'a Status,
    }
    serde_json::to_string(&Document { schema: STATUS, status }).unwrap_or_default()
}

/// What stands in the way, as one line of JSON.
pub fn doctor(examination: &Examination) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        #[serde(flatten)]
        examination: &'a Examination,
    }
    serde_json::to_string(&Document { schema: DOCTOR, examination }).unwrap_or_default()
}
