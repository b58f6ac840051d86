# shellcheck shell=bash
# What the scripts of this folder share: flags, required variables, dry runs.

script=$(basename "$0")
dry_run=
words=()
for word in "$@"; do
  if [ "$word" = --dry_run ]; then dry_run=1; else words+=("$word"); fi
done
set -- "${words[@]+"${words[@]}"}"

say() { printf '%s: %s\n' "$script" "$*" >&2; }

# Says what is wrong in one line; 2 means a mistake, as in rad-jax.
fail() {
  say "$*"
  exit 2
}

# need NAME EXAMPLE: the variable has to be set.
need() {
  [ -n "${!1:-}" ] || fail "set $1, e.g. $1=$2"
}

# need_count NAME: it has to be a number, from 1.
need_count() {
  case ${!1} in
  0* | *[!0-9]*) fail "$1 is ${!1}; it must be a number, from 1" ;;
  esac
}

# The words as one line that a shell reads as the same words.
quoted() {
  local word line=
  for word in "$@"; do
    case $word in
    '' | *[!A-Za-z0-9_./:=@%+,-]*) word="'${word//\'/\'\\\'\'}'" ;;
    esac
    line+="$word "
  done
  printf '%s\n' "${line% }"
}

# Runs a command; in a dry run only prints it.
run() {
  if [ -n "$dry_run" ]; then quoted "$@"; else "$@"; fi
}
