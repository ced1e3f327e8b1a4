# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Completion of expertctl for bash.  It knows nothing by itself: commands, options and what their
# values are stand in what --help prints, and that is made from the tables of client/options.c.

# _expertctl_value OPTION HELP prints what HELP calls the option's value; nothing for a switch.
_expertctl_value()
{
    local line
    while IFS= read -r line; do
        if [[ $line =~ ^\ \ ($1)(\ ([^ ]+))?(\ |$) ]]; then
            printf '%s' "${BASH_REMATCH[3]}"
            return
        fi
    done <<<"$2"
}

# _expertctl_offer KIND WORD sets COMPREPLY to what may stand where the help says KIND.
_expertctl_offer()
{
    local kind=${1//[\[\]]/}
    case $kind in
    *'|'*) mapfile -t COMPREPLY < <(compgen -W "${kind//|/ }" -- "$2") ;;
    DIR* | SRC | DST) mapfile -t COMPREPLY < <(compgen -d -- "$2") && compopt -o filenames ;;
    FILE | PATH) mapfile -t COMPREPLY < <(compgen -f -- "$2") && compopt -o filenames ;;
    esac
} 2>/dev/null

_expertctl()
{
    local program=${COMP_WORDS[0]/#\~/$HOME} word=${COMP_WORDS[COMP_CWORD]}
    local help command='' arg=0 option='' i kinds names
    COMPREPLY=()
    help=$("$program" --help 2>/dev/null) || return

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --) return ;;
        -*)
            option=${COMP_WORDS[i]}
            [[ -n $(_expertctl_value "$option" "$help") ]] || option=''
            ;;
        =) ;; # of --option=value, which bash splits
        *)
            if [[ -n $option ]]; then
                option=''
            elif [[ -z $command ]]; then
                command=${COMP_WORDS[i]}
                help=$("$program" "$command" --help 2>/dev/null) || return
            else
                arg=$((arg + 1))
            fi
            ;;
        esac
    done

    if [[ -n $option ]]; then
        _expertctl_offer "$(_expertctl_value "$option" "$help")" "${word#=}"
    elif [[ $word == -* ]]; then
        names=$(sed -n 's/^  \(--[a-z-]*\).*/\1/p' <<<"$help")
        mapfile -t COMPREPLY < <(compgen -W "$names" -- "$word")
    elif [[ -z $command ]]; then
        names=$(sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\).*/\1/p' <<<"$help")
        mapfile -t COMPREPLY < <(compgen -W "$names" -- "$word")
    else
        read -ra kinds <<<"$(sed -n "s/^Usage: .* $command //p" <<<"$help")"
        _expertctl_offer "${kinds[arg]-}" "$word"
    fi
}
complete -F _expertctl expertctl
