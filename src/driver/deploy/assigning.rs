//! Which file of a candidate goes where, by what HAProxy is given with `-f`.
//!
//! Looks only at which of those are directories. Called by [`super`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::driver::request::Refused;

use super::candidate::{Candidate, Piece};
use super::place::{Manner, Wanted, is_config, refuse};

/// Which files are wanted where, by what HAProxy is given with `-f`; and the directories of configurations that lose what the
/// candidate has not.
pub(super) fn assign(
    candidate: Candidate,
    configs: &[PathBuf],
) -> Result<(Vec<Wanted>, Vec<PathBuf>), Refused> {
    let wanted = |path: PathBuf, piece: Piece| Wanted {
        path,
        origin: piece.origin,
        bytes: piece.bytes,
        manner: Manner::AsItIs(piece.mode),
    };
    match (alone(candidate, configs), configs) {
        (Candidate::Files(mut pieces), [only]) if pieces.len() == 1 => {
            if only.is_dir() {
                return Err(refuse(&format!(
                    "the configuration {} is a directory, and the candidate one file; deploy a directory, or name the \
                     file that it is to replace with --config",
                    only.display()
                )));
            }
            let piece = pieces.remove(0);
            Ok((vec![wanted(only.clone(), piece)], Vec::new()))
        }
        (Candidate::Files(pieces), [only]) if only.is_dir() => {
            all_configs(&pieces)?;
            let of_directory = |piece: Piece| wanted(only.join(&piece.name), piece);
            Ok((pieces.into_iter().map(of_directory).collect(), vec![only.clone()]))
        }
        (Candidate::Files(pieces), _) => {
            let place = |piece: Piece| {
                let name = piece.name.as_os_str();
                let mut same = configs.iter().filter(|config| config.file_name() == Some(name));
                match (same.next(), same.next()) {
                    (Some(path), None) => Ok(wanted(path.clone(), piece)),
                    (Some(_), Some(_)) => Err(refuse(&format!(
                        "{}: several files of the configuration are called so ({}); deploy a directory instead",
                        piece.origin,
                        listed(configs)
                    ))),
                    (None, _) => Err(refuse(&format!(
                        "{}: no file of the configuration is called so ({}); deploy a directory to add one",
                        piece.origin,
                        listed(configs)
                    ))),
                }
            };
            Ok((pieces.into_iter().map(place).collect::<Result<_, _>>()?, Vec::new()))
        }
        (Candidate::Tree(pieces), configs) => {
            let base = base(configs)?;
            for config in configs.iter().filter(|config| config.as_path() != base) {
                let below = config.strip_prefix(&base).unwrap_or(config);
                if !pieces.iter().any(|piece| piece.name.starts_with(below)) {
                    return Err(refuse(&format!(
                        "it has no {}, which is HAProxy's configuration at {}",
                        below.display(),
                        config.display()
                    )));
                }
            }
            if configs.contains(&base) {
                let top = |piece: &&Piece| piece.name.components().count() == 1;
                all_configs(&pieces.iter().filter(top).cloned().collect::<Vec<_>>())?;
            }
            let pruned = configs.iter().filter(|config| config.is_dir()).cloned().collect();
            Ok((pieces.into_iter().map(|piece| wanted(base.join(&piece.name), piece)).collect(), pruned))
        }
    }
}

/// A directory, or an archive, with nothing but one file is that file, where HAProxy is given one.
fn alone(candidate: Candidate, configs: &[PathBuf]) -> Candidate {
    match (candidate, configs) {
        (Candidate::Tree(pieces), [only])
            if pieces.len() == 1 && pieces[0].name.components().count() == 1 && !only.is_dir() =>
        {
            Candidate::Files(pieces)
        }
        (candidate, _) => candidate,
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A directory of configurations in which HAProxy would read nothing was not meant.
fn all_configs(pieces: &[Piece]) -> Result<(), Refused> {
    let is_config = |piece: &Piece| is_config(piece.name.as_os_str().as_encoded_bytes());
    if pieces.iter().any(is_config) {
        return Ok(());
    }
    Err(refuse("it has no *.cfg, and the configuration is a directory, of which HAProxy reads only those"))
}

/// The directory that a directory of the candidate stands for.
fn base(configs: &[PathBuf]) -> Result<PathBuf, Refused> {
    if let [only] = configs
        && only.is_dir()
    {
        return Ok(only.clone());
    }
    let parents: BTreeSet<&Path> = configs.iter().filter_map(|config| config.parent()).collect();
    let mut parents = parents.into_iter();
    match (parents.next(), parents.next()) {
        (Some(base), None) => Ok(base.to_owned()),
        _ => Err(refuse(&format!(
            "it is a directory, and HAProxy's configuration does not lie in one ({}); deploy files instead",
            listed(configs)
        ))),
    }
}
