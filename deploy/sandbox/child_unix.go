//go:build unix && !linux

package sandbox

import "syscall"

// childOf is how a child runs. Where this process is killed it goes on, and is ended by the next one.
func childOf() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
