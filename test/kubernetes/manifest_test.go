// SPDX-License-Identifier: Apache-2.0

// Package kubernetes checks the manifests against the types of Kubernetes itself: every
// key must be one that the API server knows. It is a module of its own, so that those
// are no dependency of the program.
package kubernetes

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const manifests = "../../deploy/kubernetes/daemonset.yaml"

// objects returns the three that the manifests hold, strictly decoded.
func objects(t *testing.T) (*corev1.Namespace, *corev1.ConfigMap, *appsv1.DaemonSet) {
	t.Helper()
	text, err := os.ReadFile(manifests)
	if err != nil {
		t.Fatal(err)
	}
	namespace, config, set := new(corev1.Namespace), new(corev1.ConfigMap), new(appsv1.DaemonSet)
	known := map[string]any{"v1/Namespace": namespace, "v1/ConfigMap": config, "apps/v1/DaemonSet": set}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		name := kind.APIVersion + "/" + kind.Kind
		into, ok := known[name]
		if !ok {
			t.Fatalf("%q is not known here, or is there twice", name)
		}
		delete(known, name)
		text, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// As the API server reads it: letter case matters.
		strict, err := json.UnmarshalStrict(text, into)
		if err := errors.Join(append(strict, err)...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if len(known) > 0 {
		t.Fatalf("missing: %v", known)
	}
	return namespace, config, set
}

func TestManifests(t *testing.T) {
	namespace, config, set := objects(t)
	if config.Namespace != namespace.Name || set.Namespace != namespace.Name {
		t.Errorf("namespaces %q and %q, want %q", config.Namespace, set.Namespace, namespace.Name)
	}
	pod := set.Spec.Template
	selector, err := metav1.LabelSelectorAsMap(set.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range selector {
		if pod.Labels[key] != value {
			t.Errorf("label %s is %q, the selector wants %q", key, pod.Labels[key], value)
		}
	}
	if !pod.Spec.HostPID {
		t.Error("without hostPID it sees itself only")
	}
	var volumes []string
	for _, v := range pod.Spec.Volumes {
		volumes = append(volumes, v.Name)
		if v.ConfigMap != nil && v.ConfigMap.Name != config.Name {
			t.Errorf("volume %s is of config map %q, want %q", v.Name, v.ConfigMap.Name, config.Name)
		}
	}
	c := pod.Spec.Containers[0]
	for _, m := range c.VolumeMounts {
		i := slices.Index(volumes, m.Name)
		if i < 0 {
			t.Fatalf("no volume %q", m.Name)
		}
		volumes = slices.Delete(volumes, i, i+1)
	}
	if len(volumes) > 0 {
		t.Errorf("mounted nowhere: %v", volumes)
	}
	if want := append(unitCapabilities(t), "SYS_NICE"); !slices.Equal(c.SecurityContext.Capabilities.Add, want) ||
		!slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("capabilities %+v, want those of the unit, and the one for its Nice=: %v", c.SecurityContext.Capabilities, want)
	}
}

// unitCapabilities are those of the service, as Kubernetes writes them.
func unitCapabilities(t *testing.T) (list []corev1.Capability) {
	t.Helper()
	unit, err := os.ReadFile("../../deploy/systemd/abot-trace.service")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.+)$`).FindSubmatch(unit)
	if m == nil {
		t.Fatal("the unit has no CapabilityBoundingSet")
	}
	for name := range strings.FieldsSeq(string(m[1])) {
		list = append(list, corev1.Capability(strings.TrimPrefix(name, "CAP_")))
	}
	return list
}

// TestConfig has the program check what the ConfigMap holds.
func TestConfig(t *testing.T) {
	_, config, _ := objects(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(config.Data["config.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "./cmd/abot-trace", "check", path)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "0 of them armed") {
		t.Errorf("check: %v\n%s", err, out)
	}
}
