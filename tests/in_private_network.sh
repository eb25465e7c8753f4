#!/bin/sh
# Run a command where the only network interface is loopback: tests/in_private_network.sh COMMAND...
# Orthanc and DCMTK listen on every interface, and nobody outside shall reach them. Where the
# machine does not allow it the command runs as it is, and the tests with those peers are skipped.
PATH=$PATH:/usr/sbin:/sbin
inside='ip link set lo up && exec "$@"'
for option in -n -rn; do
    if unshare "$option" sh -c 'ip link set lo up' 2>/dev/null; then
        exec unshare "$option" sh -c "$inside" sh "$@"
    fi
done
echo "No private network namespace here (unshare and ip are needed): tests with peers are skipped"
exec "$@"
