// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
)

// Why tracing is not possible. The error's text names what is missing; Hint says
// what to do about it.
var (
	ErrNoBTF    = errors.New("the kernel has no BTF type information (/sys/kernel/btf/vmlinux)")
	ErrLockdown = errors.New("kernel lockdown refuses BPF programs")
)

// A MissingCapabilityError says which capabilities the process lacks.
type MissingCapabilityError struct {
	Names []string // as in capabilities(7)
}

func (e *MissingCapabilityError) Error() string {
	return "tracing needs " + strings.Join(e.Names, " and ") + ", which this process lacks"
}

// Is reports that the error is one of permission.
func (e *MissingCapabilityError) Is(target error) bool { return target == os.ErrPermission }

// A KernelTooOldError says which kernel feature is missing.
type KernelTooOldError struct {
	Feature string // "BPF ring buffer"
	Since   string // "5.8"
	Running string // as uname -r has it
}

func (e *KernelTooOldError) Error() string {
	return fmt.Sprintf("the kernel is too old: %s needs Linux %s, this is %s", e.Feature, e.Since, e.Running)
}

// Hint returns what the operator can do about an error of Open, or "".
func Hint(err error) string {
	var capability *MissingCapabilityError
	var old *KernelTooOldError
	switch {
	case errors.As(err, &capability):
		return "run it as root (sudo abot-trace ...), or grant CAP_BPF and CAP_PERFMON"
	case errors.As(err, &old):
		return "abot-trace needs Linux 5.8 or newer with CONFIG_DEBUG_INFO_BTF=y"
	case errors.Is(err, ErrNoBTF):
		return "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (in a container, mount /sys/kernel/btf)"
	case errors.Is(err, ErrLockdown):
		return "see /sys/kernel/security/lockdown; \"integrity\" allows tracing in full"
	default:
		return ""
	}
}

// capabilities(7) bits.
const (
	capSysAdmin = 21
	capPerfmon  = 38
	capBPF      = 39
)

func effectiveCaps() (uint64, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// checkCapabilities returns a MissingCapabilityError where loading is bound to fail.
func checkCapabilities() error {
	caps, err := effectiveCaps()
	if err != nil {
		return err
	}
	if caps&(1<<capSysAdmin) != 0 {
		return nil
	}
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{{capBPF, "CAP_BPF"}, {capPerfmon, "CAP_PERFMON"}} {
		if caps&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing != nil {
		return &MissingCapabilityError{missing}
	}
	return nil
}

// Check finds out within a millisecond whether Open is bound to fail: on a kernel that
// is too old or has no BTF, without the capabilities, and where the clock of our time
// namespace tells nothing of when a process has started. nil promises nothing.
func Check() error {
	if err := checkKernel(); err != nil {
		return err
	}
	if err := checkCapabilities(); err != nil {
		return err
	}
	return boottime.Check()
}

// btfPath is where the kernel shows its types; tests replace it.
var btfPath = "/sys/kernel/btf/vmlinux"

// checkKernel finds out cheaply, before anything is loaded, what cannot work.
func checkKernel() error {
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	if err := checkRelease(release); err != nil {
		return err
	}
	if _, err := os.Stat(btfPath); err != nil {
		return fmt.Errorf("%w: %w", ErrNoBTF, err)
	}
	return nil
}

func kernelRelease() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(uts.Release[:]), nil
}

// isBefore reports whether the release is older than the version. An unreadable one
// is not: let the load decide.
func isBefore(release string, wantMajor, wantMinor int) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < wantMajor || major == wantMajor && minor < wantMinor
}

// checkRelease refuses kernels without a BPF ring buffer, which came with 5.8.
func checkRelease(release string) error {
	if isBefore(release, 5, 8) {
		return &KernelTooOldError{Feature: "the BPF ring buffer", Since: "5.8", Running: release}
	}
	return nil
}

// lockdownMode returns "none", "integrity", "confidentiality", or "" where the
// kernel does not say.
func lockdownMode() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(b), "[")
	mode, _, closed := strings.Cut(rest, "]")
	if !ok || !closed {
		return ""
	}
	return mode
}

// explain turns an error of loading or attaching into one that says what is missing.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) && lockdownMode() == "confidentiality":
		return fmt.Errorf("%s: %w: %w", what, ErrLockdown, err)
	case errors.Is(err, unix.EPERM):
		if missing := checkCapabilities(); missing != nil {
			return fmt.Errorf("%s: %w", what, missing)
		}
	case errors.Is(err, btf.ErrNotFound):
		return fmt.Errorf("%s: %w: %w", what, ErrNoBTF, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: not supported by this kernel: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
