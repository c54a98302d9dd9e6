// SPDX-License-Identifier: Apache-2.0

package procfs

import "strings"

// Unit is what a control group path says about who manages the processes in it.
// Names are as systemctl prints them, escapes (\x2d) included. Being in a unit's
// cgroup does not make a process one that the unit manages: children share it.
type Unit struct {
	Name      string // the system manager's unit: "nginx.service", "session-3.scope"
	Slice     string // the innermost slice above Name
	UserUnit  string // the unit of the user manager, where Name is "user@1000.service"
	Container string // the id of the innermost container: 64 hex digits
}

// UnitOf takes apart a path as Cgroups.Path gives it, by the rules of systemd's
// cgroup-util: leading slices, then the unit; below a user manager the same again.
// What lies deeper was delegated to the unit and is its own business.
func UnitOf(cgroup string) (u Unit) {
	parts := strings.Split(strings.Trim(cgroup, "/"), "/")
	if at := containerAt(parts); at >= 0 {
		u.Container = containerID(parts[at])
	}
	for i, part := range parts {
		parts[i] = unescape(part)
	}
	u.Name, u.Slice, parts = nextUnit(parts)
	if isUserManager(u.Name) {
		u.UserUnit, _, _ = nextUnit(parts)
	}
	return u
}

// unescape undoes systemd's cg_escape: a name that the kernel could take for its
// own file gets a "_" in front.
func unescape(name string) string { return strings.TrimPrefix(name, "_") }

// nextUnit skips slices; the component after them is the unit, or there is none.
func nextUnit(parts []string) (unit, slice string, rest []string) {
	for i, part := range parts {
		if isUnit(part, ".slice") {
			slice = part
			continue
		}
		for _, suffix := range [...]string{".service", ".scope", ".socket", ".mount", ".swap"} {
			if isUnit(part, suffix) {
				return part, slice, parts[i+1:]
			}
		}
		break
	}
	return "", slice, nil
}

const maxUnitName = 255

func isUnit(name, suffix string) bool {
	stem, found := strings.CutSuffix(name, suffix)
	if !found || stem == "" || stem[0] == '@' || len(name) > maxUnitName {
		return false
	}
	for i := range len(stem) {
		if !unitChar(stem[i]) {
			return false
		}
	}
	return true
}

func unitChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte(`:-_.\@`, c) >= 0
}

// isUserManager recognizes user@UID.service, and only with a number: an instance
// of another name is no user manager.
func isUserManager(unit string) bool {
	uid, ok := strings.CutPrefix(unit, "user@")
	if !ok {
		return false
	}
	uid, ok = strings.CutSuffix(uid, ".service")
	return ok && uid != "" && strings.Trim(uid, "0123456789") == ""
}

// A ContainerGroup is the control group of the innermost container that a path leads into.
type ContainerGroup struct {
	ID   string // 64 hex digits; empty where the path leads into none
	Path string // of the group itself
	// Own says that whoever made the group may have been a user, or a container: it stands in
	// a user's slice, below a user manager, or in another container. Its name is then that
	// one's choice.
	Own bool
}

// ContainerGroupOf finds the container in a path as Cgroups.Path gives it.
func ContainerGroupOf(cgroup string) (g ContainerGroup) {
	parts := strings.Split(strings.Trim(cgroup, "/"), "/")
	at := containerAt(parts)
	if at < 0 {
		return g
	}
	g.ID, g.Path = containerID(parts[at]), "/"+strings.Join(parts[:at+1], "/")
	g.Own = containerAt(parts[:at]) >= 0
	for _, part := range parts[:at] {
		part = unescape(part)
		user := strings.HasPrefix(part, "user-") && strings.HasSuffix(part, ".slice")
		g.Own = g.Own || user || part == "user.slice" || isUserManager(part)
	}
	return g
}

// containerAt is which part of a path is the innermost container's, -1 where none is.
func containerAt(parts []string) int {
	for i := len(parts) - 1; i >= 0; i-- {
		if containerID(parts[i]) != "" {
			return i
		}
	}
	return -1
}

// containerID finds the id in the shapes that are in use: docker/ID, docker-ID.scope,
// cri-containerd-ID.scope, crio-ID, libpod-ID.scope, kubepods/.../podUID/ID,
// kubepods-...slice:cri-containerd:ID. The container's monitor (conmon) has a scope
// named alike, and is not in the container.
func containerID(name string) string {
	name = strings.TrimSuffix(name, ".scope")
	cut := strings.LastIndexAny(name, "-:") + 1
	if isContainerID(name[cut:]) && !strings.HasSuffix(name[:cut], "conmon-") {
		return name[cut:]
	}
	return ""
}

func isContainerID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
