//! Every word that a value of the JSON forms can be.

use std::collections::BTreeSet;

use hareload::core::account::COMMANDS;
use hareload::core::input::{Failure, Refusal};
use hareload::core::outcome::{Cause, Rest, Verdict};
use hareload::core::phase::Step;
use hareload::core::plan::Way;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::Value;

use crate::pages::{coded, document, explained, said_of};

/// The words with which a value is written: strings and names.
pub(crate) fn words(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(word) => drop(found.insert(word.clone())),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            words(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The names of an enum's variants, as they are written and read.
fn variants<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut found = None;
    // It only asks for the names, and gives no value.
    let _ = T::deserialize(Curious(&mut found));
    found.expect("an enum").iter().map(|name| (*name).to_owned()).collect()
}

/// What an enum shows its names to before it is read.
struct Curious<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Curious<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = Some(variants);
        Err(Self::Error::custom("the names were all that was wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not an enum"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

pub(crate) fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_verdict_and_every_cause_is_listed() {
    let text = document("docs/json.md");
    assert_eq!(explained(&text, "\nA verdict is one of\n"), variants::<Verdict>());
    assert_eq!(explained(&text, "\nA cause is one of\n"), variants::<Cause>());
    let refused = said_of(&text, "\nA verdict is one of\n", "`{\"refused\":[KIND,\"why\"]}`");
    let (_, kinds) = refused.split_once("KIND: ").expect("the kinds");
    assert_eq!(coded(kinds), variants::<Refusal>());
    let proof = said_of(&text, "\nA cause is one of\n", "`{\"proof\":[PROOF,\"why\"]}`");
    assert_eq!(coded(&proof), variants::<Step>());
    let (_, failure) = text.split_once("\nA FAILURE is ").expect("the failures");
    let (_, kinds) = failure.split_once("KIND: ").expect("the kinds");
    let (kinds, _) = kinds.split_once("\n\n").expect("the end of a paragraph");
    let why = || "why".to_owned();
    let known = [
        Failure::Configuration(why()),
        Failure::PortsOfOld(why()),
        Failure::PortsOfOthers(why()),
        Failure::Transfer(why()),
        Failure::Other(why()),
    ];
    let known = known.map(|failure| serde_json::to_value(failure).expect("JSON")["kind"].take());
    assert_eq!(coded(kinds), set(&known.each_ref().map(|kind| kind.as_str().expect("a word"))));
}

#[test]
fn every_command_way_and_rest_is_listed() {
    let text = document("docs/json.md");
    let said = |name: &str| said_of(&text, "## hareload.handover/1", name);
    // What follows a semicolon says more about one of them.
    let commands = said("`command`");
    assert_eq!(coded(commands.split(';').next().unwrap_or_default()), set(&COMMANDS));
    let ways = said("`outcome.way`");
    assert_eq!(coded(&ways), variants::<Way>());
    let rest = said("`outcome.rest`");
    assert_eq!(coded(rest.split(';').next().unwrap_or_default()), variants::<Rest>());
    // A reload has somebody to take over from.
    let mut of_reload = variants::<Way>();
    of_reload.remove(Way::Start.name());
    assert_eq!(coded(&said_of(&text, "## hareload.intention/1", "`would.ways[].way`")), of_reload);
}
