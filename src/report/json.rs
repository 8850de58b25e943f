//! The machine-readable form: one object a line, its schema named in it. `docs/json.md` describes it.

use crate::core::account::Account;

/// An account as one line of JSON.
pub fn account(account: &Account) -> String {
    serde_json::to_string(account).unwrap_or_default()
}
