//! Breadth first through every state, so that the first broken promise comes with the shortest story.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use hareload::core::input::Input;
use hareload::core::machine::Machine;
use hareload::core::plan::Plan;

use crate::events::Event;
use crate::promise;
use crate::world::State;

/// How much there was.
pub(crate) struct Size {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    /// The most ticks that any state needs to the end when nothing but the clock is heard.
    pub(crate) ticks: usize,
}

/// More than any state needs: going beyond means that the machine goes round.
const TOO_MANY_TICKS: usize = 100;

/// Goes through every state that this plan can reach.
pub(crate) fn everything(plan: &Plan) -> Result<Size, String> {
    let first = Rc::new(State::first(plan));
    let mut known = HashMap::from([(Rc::clone(&first), 0)]);
    let mut states = vec![(first, 0)];
    let mut edges: Vec<Vec<Edge>> = Vec::new();
    let mut silence = Silence::default();
    let mut size = Size { states: 0, transitions: 0, ticks: 0 };
    while let Some((state, _)) = states.get(edges.len()).cloned() {
        let at = edges.len();
        let mut leads = Vec::new();
        promise::always(&state).map_err(|broken| story(plan, &states, at, None, &broken))?;
        if let Some(machine) = &state.machine {
            let ticks = silence.ticks(machine);
            let ticks = ticks.map_err(|broken| story(plan, &states, at, None, &broken))?;
            size.ticks = size.ticks.max(ticks);
        }
        for (event, after) in state.next(plan) {
            size.transitions += 1;
            let after = after.map_err(|broken| story(plan, &states, at, Some(&event), &broken))?;
            let number = match known.get(&after) {
                Some(number) => *number,
                None => {
                    let after = Rc::new(after);
                    let number = states.len();
                    known.insert(Rc::clone(&after), number);
                    states.push((after, at));
                    number
                }
            };
            match event {
                Event::Crash | Event::Recover(_) => {}
                Event::Hears(Input::Tick) => leads.push(Edge { to: number, ticks: true }),
                Event::Hears(_) | Event::Does(_) | Event::DoesInVain(_) | Event::Happens(_) => {
                    leads.push(Edge { to: number, ticks: false });
                }
            }
        }
        edges.push(leads);
    }
    if let Some(at) = round(&edges) {
        return Err(story(plan, &states, at, None, "time passes and the handover goes round for ever"));
    }
    size.states = states.len();
    Ok(size)
}

/// The ticks to the end, for machines that were asked about before.
#[derive(Default)]
struct Silence {
    known: HashMap<Machine, usize>,
}

impl Silence {
    /// How many ticks lead to the end when nothing else is heard.
    fn ticks(&mut self, machine: &Machine) -> Result<usize, String> {
        let mut way = Vec::new();
        let mut machine = machine.clone();
        let mut ticks = loop {
            if let Some(ticks) = self.known.get(&machine) {
                break *ticks;
            }
            let Some(at) = machine.wakes_at() else { break 0 };
            if way.len() > TOO_MANY_TICKS {
                return Err(format!(
                    "silence does not lead to the end; after {} ticks: {:?}",
                    way.len(),
                    machine
                ));
            }
            way.push(machine.clone());
            let _ = machine.step(at, Input::Tick);
            machine = machine.rebased(at);
        };
        for machine in way.into_iter().rev() {
            ticks += 1;
            self.known.insert(machine, ticks);
        }
        Ok(ticks)
    }
}

/// Where one event leads, and whether time passes in it.
#[derive(Clone, Copy)]
struct Edge {
    to: usize,
    ticks: bool,
}

/// A state to which a circle through a tick leads back, crashes aside: without one, every handover ends whatever is
/// heard. A circle in which no time passes is a word said twice, and ends with the new one's tries.
fn round(edges: &[Vec<Edge>]) -> Option<usize> {
    let component = components(edges);
    edges.iter().enumerate().find_map(|(from, leads)| {
        leads.iter().any(|edge| edge.ticks && component[edge.to] == component[from]).then_some(from)
    })
}

/// The strongly connected components (Tarjan, without recursion).
fn components(edges: &[Vec<Edge>]) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let mut index = vec![UNSEEN; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut component = vec![UNSEEN; edges.len()];
    let mut open = Vec::new();
    let mut seen = 0;
    let mut found = 0;
    for root in 0..edges.len() {
        if index[root] != UNSEEN {
            continue;
        }
        let mut calls = vec![(root, 0)];
        while let Some((at, edge)) = calls.pop() {
            if edge == 0 {
                index[at] = seen;
                low[at] = seen;
                seen += 1;
                open.push(at);
            } else {
                let back = edges[at][edge - 1].to;
                if component[back] == UNSEEN {
                    low[at] = low[at].min(low[back]);
                }
            }
            match edges[at].get(edge) {
                Some(Edge { to, .. }) => {
                    calls.push((at, edge + 1));
                    if index[*to] == UNSEEN {
                        calls.push((*to, 0));
                    }
                }
                None if low[at] == index[at] => {
                    while let Some(member) = open.pop() {
                        component[member] = found;
                        if member == at {
                            break;
                        }
                    }
                    found += 1;
                }
                None => {}
            }
        }
    }
    component
}

/// How it came to this.
fn story(
    plan: &Plan,
    states: &[(Rc<State>, usize)],
    at: usize,
    last: Option<&Event>,
    broken: &str,
) -> String {
    let mut chapters = VecDeque::new();
    let mut here = at;
    while here != 0 {
        let (state, from) = &states[here];
        let next = states[*from].0.next(plan);
        let event = next.into_iter().find(|(_, after)| after.as_ref().is_ok_and(|after| *after == **state));
        let phase = state.machine.as_ref().map(Machine::phase);
        let name = event.map(|(event, _)| event);
        chapters.push_front(format!("{name:?} -> {phase:?} {:?} {:?}", state.world.old, state.world.new));
        here = *from;
    }
    chapters.extend(last.map(|event| format!("{event:?}")));
    let told = chapters.into_iter().map(|line| format!("\n  {line}")).collect::<String>();
    format!("broken: {broken}; how it came to it:{told}\n  {:?}", states[at].0.world)
}
