# Sourced by the guest's init and by the host's wrapper: the part that is the
# same in both. The description of the run has set dir, environment, argv,
# merged and collect; enter is what leads into the command's root. Descriptors 5 and 6
# are the command's output and error, 7 takes the news of the run ("start",
# "exit N"), 8 the collected files.

run_command() {
    [ -z "$merged" ] || exec 6>&5
    echo start >&7
    "${enter[@]}" /bin/bash -c 'cd -- "$0" && exec env -i "$@"' \
        "$dir" "${environment[@]}" "${argv[@]}" </dev/null >&5 2>&6 5>&- 6>&- 7>&- 8>&-
}

# send_collected writes a tar archive of those wanted files that exist.
send_collected() {
    [ ${#collect[@]} -gt 0 ] || return 0
    "${enter[@]}" /bin/bash -c '
        cd /
        for path; do
            [ -e "/$path" ] && present+=("$path")
        done
        [ ${#present[@]} -eq 0 ] || exec tar -cf - "${present[@]}"
    ' collect "${collect[@]}" >&8 5>&- 6>&- 7>&-
}
