//go:build linux || darwin

package command

import "golang.org/x/sys/unix"

// freeSpace is what this user may still write in a folder, in bytes.
func freeSpace(folder string) (bytes int64, known bool) {
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return 0, false
	}
	return int64(disk.Bavail) * int64(disk.Bsize), true //nolint:unconvert // of other types on other systems
}
