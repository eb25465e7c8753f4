#!/bin/bash
# Install the programs of others that tests compare with, as far as this machine allows.
# Never fails: a test whose program is missing is skipped and names it.
# With the argument "compatibility" also what fetches the viewer that runs in the browser.
set -u
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=()
need() { # need PACKAGE COMMAND-THAT-TELLS...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
need dcmtk command -v storescp
need orthanc command -v Orthanc
need orthanc-dicomweb test -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so
need dicom3tools command -v dciodvfy
need libgdcm-tools command -v gdcmconv
need libpixelmed-java test -e /usr/share/java/pixelmed.jar
need default-jre-headless command -v java
need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
need iproute2 command -v ip
need haproxy command -v haproxy
need systemd-container command -v systemd-nspawn
need systemd command -v systemd-analyze
need util-linux command -v unshare
need chromium command -v chromium
need fonts-dejavu-core test -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
if [ "${1:-}" = compatibility ]; then
    need nodejs command -v node
    need npm command -v npm
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Tests that need these are skipped; as root on Debian: apt install ${missing[*]}"
    exit 0
fi

# Debian starts a server when its package is installed; Orthanc would listen on every interface.
# Of PostgreSQL only the programs are wanted: the tests make clusters of their own.
no_cluster=/etc/postgresql-common/createcluster.d/dicom-node-tests.conf
mkdir -p "${no_cluster%/*}"
echo 'create_main_cluster = false' >$no_cluster
trap 'rm -f $no_cluster' EXIT
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy $no_cluster' EXIT
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
options=(-qq -o Acquire::Retries=2 -o DPkg::Lock::Timeout=120)
apt-get "${options[@]}" update || echo "apt-get update failed; trying with the lists that are here"
if ! apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null; then
    # One unknown package must not cost all the others.
    for package in "${missing[@]}"; do
        apt-get "${options[@]}" install -y --no-install-recommends "$package" >/dev/null ||
            echo "could not install $package: tests that need it are skipped"
    done
fi
case " ${missing[*]} " in
*" orthanc "*) systemctl disable orthanc >/dev/null 2>&1 ;;
esac
exit 0
