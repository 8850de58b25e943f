//! What `hareload doctor` says, asked in every form.

use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::process::RunResult;
use hareload_testkit::serde_json::{self, Value};
use hareload_testkit::stage::Stage;

/// The exit code that the worst of the findings asks for.
pub(crate) fn code_of(told: &Value) -> i32 {
    let has = |level| levels(told).iter().any(|(one, ..)| one == level);
    if has("error") {
        20
    } else if has("warning") {
        10
    } else {
        0
    }
}

/// Level, area and code of each finding.
pub(crate) fn levels(told: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = told["findings"].as_array().into_iter().flatten();
    findings.map(|one| (text(&one["level"]), text(&one["area"]), text(&one["code"]))).collect()
}

pub(crate) fn of_result(result: &RunResult) -> Result<Value> {
    let told: Value = serde_json::from_str(&result.stdout)
        .with_context(|| format!("{:?} {}{}", result.code, result.stdout, result.stderr))?;
    ensure!(told["schema"] == "hareload.doctor/1", "{told}");
    ensure!(result.code == code_of(&told) && told["exit_code"] == result.code, "{}: {told}", result.code);
    ensure!(result.stderr.is_empty(), "{}", result.stderr);
    let levels: Vec<_> = levels(&told).into_iter().map(|(level, ..)| level).collect();
    let rank = |level: &String| ["error", "warning", "note"].iter().position(|one| one == level);
    ensure!(levels.is_sorted_by_key(rank), "{levels:?}");
    Ok(told)
}

/// What it says, which is the same in both forms, while nothing is touched.
pub(crate) fn doctor_with(stage: &Stage, args: &[&str]) -> Result<Value> {
    let before = stage.files()?;
    let told = of_result(&stage.json().verb("doctor").args(args).run()?)?;
    let code = code_of(&told);
    let human = stage.hareload().verb("doctor").args(args).run()?.expect_code(code)?;
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = plain(&human.stdout);
    for one in told["findings"].as_array().into_iter().flatten() {
        let message = one["message"].as_str().unwrap_or_default();
        // Memory, and who runs elsewhere, may have changed meanwhile.
        let passing = ["memory", "other-network"].iter().any(|code| one["code"] == *code);
        ensure!(shown.contains(&plain(message)) || passing, "{message}\n{}", human.stdout);
    }
    let quiet = stage.hareload().verb("doctor").args(args).arg("-q").run()?.expect_code(code)?;
    ensure!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}{}", quiet.stdout, quiet.stderr);
    ensure!(stage.files()? == before, "it has made or removed something");
    Ok(told)
}

pub(crate) fn doctor(stage: &Stage) -> Result<Value> {
    doctor_with(stage, &[])
}

/// What `--fix` has mended, and what is true then.
pub(crate) fn fix(stage: &Stage) -> Result<(Vec<String>, Value)> {
    let told = of_result(&stage.json().verb("doctor").arg("--fix").run()?)?;
    let fixed = told["fixed"].as_array().into_iter().flatten();
    let fixed = fixed.map(|one| one.as_str().unwrap_or_default().to_owned()).collect();
    ensure!(told["not_fixed"].as_array().is_some_and(Vec::is_empty), "{told}");
    Ok((fixed, told))
}

pub(crate) fn finding<'a>(told: &'a Value, code: &str) -> Option<&'a Value> {
    told["findings"].as_array()?.iter().find(|one| one["code"] == code)
}

/// There is such a finding, of this level.
pub(crate) fn expect<'a>(told: &'a Value, level: &str, code: &str) -> Result<&'a Value> {
    match finding(told, code) {
        Some(found) if found["level"] == level => Ok(found),
        Some(found) => bail!("{code} is no {level}: {found}"),
        None => bail!("no {code} in {told}"),
    }
}

/// Nothing worse than a note, but what the machine that the test runs on has of its own: who manages what, and limits.
pub(crate) fn expect_sound(told: &Value) -> Result<()> {
    let own = |area: &String| ["manager", "limits"].contains(&area.as_str());
    let worse: Vec<_> =
        levels(told).into_iter().filter(|(level, area, _)| level != "note" && !own(area)).collect();
    ensure!(worse.is_empty(), "{worse:?} {told}");
    Ok(())
}

/// What a reload would do is what `--dry-run` says.
pub(crate) fn expect_same_way(stage: &Stage, told: &Value) -> Result<()> {
    let dry = stage.json().arg("--dry-run").run()?;
    let dry: Value = serde_json::from_str(&dry.stdout)?;
    ensure!(dry["would"].is_object() && told["reload"] == dry["would"], "{}\n{}", told["reload"], dry);
    Ok(())
}
