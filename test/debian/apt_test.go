// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMirrors(t *testing.T) {
	for _, tt := range []struct {
		name, targets  string
		main, security string
		fails          bool
	}{
		{"usual", "Packages http://m/debian/ bookworm\nDEP-11 http://m/debian/ bookworm\nPackages http://s/security/ bookworm-security\n",
			"http://m/debian/", "http://s/security/", false},
		{"others first", "Packages http://node/ nodistro\nPackages http://cloud/ sdk-bookworm\nPackages http://m/ bookworm-updates\nPackages http://m/ trixie\n",
			"http://m/", "", false},
		{"none of Debian", "Packages http://node/ nodistro\n", "", "", true},
		{"empty", "", "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			main, security, err := mirrors(tt.targets)
			if (err != nil) != tt.fails || main != tt.main || security != tt.security {
				t.Errorf("got %q, %q, %v", main, security, err)
			}
		})
	}
}

func TestNewestKernel(t *testing.T) {
	const list = `linux-image-cloud-amd64 - meta
linux-image-6.12-cloud-amd64 - meta
linux-image-6.1.0-9-cloud-amd64 - Linux 6.1
linux-image-6.1.0-50-cloud-amd64 - Linux 6.1
linux-image-6.12.9+deb12-cloud-amd64 - Linux 6.12
linux-image-6.12.100+deb13-cloud-amd64 - Linux 6.12
linux-image-6.12.100+deb12-cloud-amd64 - Linux 6.12
`
	for family, want := range map[string]string{
		"6.1":    "linux-image-6.1.0-50-cloud-amd64",
		"6.12":   "linux-image-6.12.100+deb13-cloud-amd64",
		"newest": "linux-image-6.12.100+deb13-cloud-amd64",
	} {
		if got, err := newestKernel(list, family); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", family, got, err, want)
		}
	}
	if got, err := newestKernel(list, "5.10"); err == nil {
		t.Errorf("5.10: got %q, want an error", got)
	}
}

func TestExtract(t *testing.T) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, text := range map[string]string{"./boot/config": "no", "./boot/vmlinuz": "kernel"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinuz")
	if err := extract(bytes.NewReader(archive.Bytes()), "./boot/vmlinuz", path); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "kernel" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := extract(bytes.NewReader(archive.Bytes()), "./missing", path+"2"); !errors.Is(err, errNoMember) {
		t.Errorf("a missing member: got %v", err)
	}
	cut := archive.Bytes()[:600]
	if err := extract(bytes.NewReader(cut), "./missing", path+"3"); err == nil || errors.Is(err, errNoMember) && !strings.Contains(err.Error(), "missing") {
		t.Errorf("an archive cut short: got %v", err)
	}
}
