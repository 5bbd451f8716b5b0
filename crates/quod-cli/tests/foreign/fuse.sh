# A file system made with a file in it, and checked, in the disk as nbdfuse shows it. The argument is the URI.
set -eu
export E2FSPROGS_FAKE_TIME=1000000000
id=11111111-2222-3333-4444-555555555555
mkdir mount files
seq 200000 >files/numbers
nbdfuse mount/disk "$1" &
trap 'fusermount3 -q -u -z mount || true' EXIT
for try in $(seq 200); do
    if [ -e mount/disk ]; then break; fi
    sleep 0.05
done
stat --format='%s bytes' mount/disk
mkfs.ext4 -F -q -U $id -E hash_seed=$id,lazy_itable_init=0 -d files mount/disk
debugfs -R 'dump numbers again' mount/disk 2>&1
cmp files/numbers again
e2fsck -f -n mount/disk 2>&1
sync mount/disk
fusermount3 -u mount
trap - EXIT
wait
nbdcopy "$1" copy.raw
e2fsck -f -n copy.raw 2>&1
debugfs -R 'dump numbers once-more' copy.raw 2>&1
cmp files/numbers once-more
# The file carries when it was made, so the disks would not be the same afterwards.
truncate --size=64M zeroes
nbdcopy --flush zeroes "$1"
