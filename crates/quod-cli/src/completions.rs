//! `quod completions`: what a shell needs to complete verbs, options and file names.
//!
//! Role: prints the script of one shell, made from the same declarations that read the arguments.
//!
//! Absent on purpose: installing it; each shell and each distribution has its own place.

use std::io::Write;

use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate};

use crate::output;

/// Print a completion script for a shell.
///
/// It completes verbs, options, the words that an option takes, and file names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod completions bash > ~/.local/share/bash-completion/completions/quod
  quod completions zsh > ~/.zfunc/_quod            a directory of $fpath
  quod completions fish > ~/.config/fish/completions/quod.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: Command) -> anyhow::Result<u8> {
    command = command.mut_subcommands(|verb| verb.mut_args(a_path_may_go_on));
    let name = command.get_name().to_owned();
    // Into memory first: the generator panics when what it writes to fails.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    let mut out = output::results();
    out.write_all(&script)?;
    out.flush()?;
    Ok(0)
}

/// What is known to be a path is completed as a file is: a directory gets its slash, and no blank after that.
fn a_path_may_go_on(argument: Arg) -> Arg {
    match argument.get_value_hint() {
        ValueHint::AnyPath => argument.value_hint(ValueHint::FilePath),
        _ => argument,
    }
}
