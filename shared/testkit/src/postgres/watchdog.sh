# Runs the server until nobody has held the lock on "users" for 30 seconds, then removes its files.
# Arguments: the base folder, then the command line of the server.
base=$1
shift
"$@" -D "$base/data" -k "$base/socket" -c listen_addresses= -c max_connections=200 \
    -c fsync=off -c full_page_writes=off -c max_wal_size=4GB -c shared_buffers=128MB &
server=$!
idle=0
while kill -0 "$server" 2>/dev/null; do
    sleep 1
    if flock --nonblock --exclusive "$base/users" true; then idle=$((idle + 1)); else idle=0; fi
    if [ "$idle" -ge 30 ]; then
        (
            flock --nonblock --exclusive 9 || exit 1
            kill -INT "$server"
            while [ -e "$base/data/postmaster.pid" ]; do sleep 0.1; done
            rm -rf "$base/data" "$base/socket"
        ) 9>>"$base/users" && break
        idle=0
    fi
done
wait "$server"
