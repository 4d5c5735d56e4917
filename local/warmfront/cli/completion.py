"""`warmfront completion`: prints a script that completes commands, options and their values in a shell."""

import argparse

from warmfront.cli.main import COMMANDS, MissingExtra, command_module

SHELLS = ("bash", "zsh", "fish")

type Options = dict[str, tuple[str, tuple[str, ...], bool]]
"""Option -> its help, the values to choose from, whether its value is a path."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")
    parser.epilog = (
        "bash: source <(warmfront completion bash); zsh: the same with zsh, after compinit; "
        "fish: warmfront completion fish | source"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script. Exit status 0."""
    commands = {name: options_of(name) for name in COMMANDS}
    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](commands))
    return 0


def options_of(command: str) -> Options:
    """Return the long options of a subcommand; none if the extra that it needs is not installed."""
    parser = argparse.ArgumentParser(add_help=False)
    try:
        command_module(command).add_arguments(parser)
    except MissingExtra:
        return {}
    found: Options = {}
    for action in parser._actions:  # argparse has no public way to list options
        for option in action.option_strings:
            if option.startswith("--"):
                choices = tuple(str(choice) for choice in action.choices or ())
                is_path = getattr(action.type, "__name__", "") == "Path"
                found[option] = (action.help or "", choices, is_path)
    return found


def bash(commands: dict[str, Options]) -> str:
    """Return a bash completion function; COMP_WORDS[1] is the subcommand."""
    cases = []
    values = []
    for name, options in commands.items():
        cases.append(f'    {name}) words="{" ".join(options)}" ;;')
        values += [
            f'    {name}:{option}) COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$current")); return ;;'
            for option, (_, choices, _) in options.items()
            if choices
        ]
    return f"""\
_warmfront() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(commands)}" -- "$current")); return
  fi
  case "${{COMP_WORDS[1]}}:$previous" in
{chr(10).join(values)}
  esac
  case "${{COMP_WORDS[1]}}" in
{chr(10).join(cases)}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}}
complete -o filenames -F _warmfront warmfront"""


def zsh(commands: dict[str, Options]) -> str:
    """Return the bash function wrapped in bashcompinit, which is part of zsh."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash(commands)}"


def fish(commands: dict[str, Options]) -> str:
    """Return fish's complete commands: one for each subcommand and one for each option."""
    lines = ["complete -c warmfront -f -n __fish_use_subcommand"]
    lines += [
        f"complete -c warmfront -f -n __fish_use_subcommand -a {name} -d {_quoted(about)}"
        for name, about in COMMANDS.items()
    ]
    for name, options in commands.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for option, (about, choices, is_path) in options.items():
            values = f" -x -a {_quoted(' '.join(choices))}" if choices else " -r -F" if is_path else ""
            lines.append(f"complete -c warmfront {seen} -l {option[2:]}{values} -d {_quoted(about)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    text = text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
