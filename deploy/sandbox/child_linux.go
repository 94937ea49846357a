package sandbox

import "syscall"

// childOf is how a child runs that must not outlive this process, not even where that is killed.
func childOf() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
