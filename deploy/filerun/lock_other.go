//go:build !unix

package filerun

import "os"

// lockFile has no lock to take on this system: nobody keeps two runs with one output apart.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
