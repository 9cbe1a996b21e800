# The guard of guard.ts. Its standard input closes when the process that started it has ended, in whatever way.
#
# Lines: `+ pid signal` (stop this one with that signal), `- pid` (it has ended), `dir path` (remove it), `nodir path`.
# A process that does not go within ten seconds is killed.
trap '' INT TERM HUP QUIT PIPE
pids=' '
dirs=''
newline='
'
while read -r verb first rest; do
  case $verb in
    +) pids="$pids$first:$rest " ;;
    -) kept=' '
       for entry in $pids; do [ "${entry%:*}" = "$first" ] || kept="$kept$entry "; done
       pids=$kept ;;
    dir) dirs="$dirs$first$newline" ;;
    nodir) kept=''
       IFS=$newline
       for entry in $dirs; do [ "$entry" = "$first" ] || kept="$kept$entry$newline"; done
       unset IFS
       dirs=$kept ;;
  esac
done
for entry in $pids; do
  kill -s "${entry#*:}" "${entry%:*}" 2>/dev/null
  kill -s CONT "${entry%:*}" 2>/dev/null
done
rounds=0
while [ $rounds -lt 100 ]; do
  alive=''
  for entry in $pids; do kill -0 "${entry%:*}" 2>/dev/null && alive=yes; done
  [ -n "$alive" ] || break
  sleep 0.1
  rounds=$((rounds + 1))
done
for entry in $pids; do kill -s KILL "${entry%:*}" 2>/dev/null; done
IFS=$newline
for entry in $dirs; do rm -rf -- "$entry"; done
