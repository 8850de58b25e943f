//! Hareload is called several times at once, or wrongly.

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::stage::timeline;

use crate::by;
use crate::scene::{DEADLINE, Scene};

fn at_once(haproxy: &Haproxy, calls: usize) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let running = (0..calls).map(|_| by::json(&scene.stage).spawn()).collect::<Result<Vec<_>>>()?;
    let mut generations = std::collections::BTreeSet::new();
    for one in running {
        let result = one.wait(DEADLINE)?.expect_code(0)?;
        let told = by::account(&result)?;
        let number = told["new"]["generation"].as_u64().with_context(|| timeline(&told))?;
        generations.insert(number);
    }
    // A deploy has a candidate of its own, and is no other's handover.
    let most = if by::deploys() { calls } else { calls.min(3) };
    ensure!(generations.len() <= most, "{calls} calls made {} generations", generations.len());
    let last = u64::try_from(if by::deploys() { calls } else { 3 })?;
    ensure!(generations.last().is_some_and(|number| *number <= last), "{generations:?} were numbered");
    scene.new_serves()?;
    scene.stage.instance.wait_only(&scene.stage.instance.pidfile()?, DEADLINE)?;
    scene.handed_over()
}

pub(crate) fn two_at_once(haproxy: &Haproxy) -> Result<()> {
    at_once(haproxy, 2)
}

pub(crate) fn ten_at_once(haproxy: &Haproxy) -> Result<()> {
    at_once(haproxy, 10)
}

pub(crate) fn usage(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    scene.hareload().args(["--handover", "sideways"]).run()?.expect_code(2)?;
    scene.hareload().args(["--trial", "5"]).run()?.expect_code(2)?;
    scene.hareload().args(["--probe", "nonsense"]).run()?.expect_code(2)?;
    scene.unharmed()
}
