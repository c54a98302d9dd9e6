// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxText bounds a name or an image; the longest reference of an image has 255 bytes of name
// and 128 of tag, beside the registry's.
const maxText = 1024

// text is a value that is fit to be kept, else empty.
func text(s string) string {
	if len(s) > maxText || !utf8.ValidString(s) {
		return ""
	}
	return s
}

// first is the first value that is not empty among those of the keys.
func first(values map[string]string, keys ...string) string {
	for _, key := range keys {
		if s := text(values[key]); s != "" {
			return s
		}
	}
	return ""
}

// The keys of annotations and labels: of containerd's CRI, of CRI-O, of the kubelet, of nerdctl.
var (
	nameKeys      = []string{"io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"}
	imageKeys     = []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.UserRequestedImage"}
	podNameKeys   = []string{"io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name", "io.kubernetes.cri-o.KubeName"}
	namespaceKeys = []string{"io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace", "io.kubernetes.cri-o.Namespace"}
	podUIDKeys    = []string{"io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"}
)

func podOf(values map[string]string) Pod {
	return Pod{Namespace: first(values, namespaceKeys...), Name: first(values, podNameKeys...), UID: first(values, podUIDKeys...)}
}

// texts are an object's values that are texts; those of other types say nothing.
type texts map[string]string

// UnmarshalJSON keeps the keys that are looked for, and nothing else.
func (t *texts) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*t = make(texts)
	for _, keys := range [][]string{nameKeys, imageKeys, podNameKeys, namespaceKeys, podUIDKeys} {
		for _, key := range keys {
			var s string
			if err := json.Unmarshal(all[key], &s); err == nil {
				(*t)[key] = s
			}
		}
	}
	return nil
}

// parseDocker reads docker's config.v2.json.
func parseDocker(b []byte) (Info, error) {
	var c struct {
		Name   string
		Config struct {
			Image  string
			Labels texts
		}
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Info{}, err
	}
	return Info{Name: text(strings.TrimPrefix(c.Name, "/")), Image: text(c.Config.Image), Pod: podOf(c.Config.Labels)}, nil
}

// parseBundle reads the config.json of a bundle, as the OCI runtime specification has it.
func parseBundle(b []byte) (Info, error) {
	var c struct {
		Annotations texts `json:"annotations"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Info{}, err
	}
	return Info{Name: first(c.Annotations, nameKeys...), Image: first(c.Annotations, imageKeys...), Pod: podOf(c.Annotations)}, nil
}

// parseStorage reads the containers.json of containers/storage, which lists all of podman's
// or CRI-O's containers.
func parseStorage(b []byte, id string) (Info, error) {
	var list []struct {
		ID       string   `json:"id"`
		Names    []string `json:"names"`
		Metadata string   `json:"metadata"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return Info{}, err
	}
	for i := range list {
		if list[i].ID != id {
			continue
		}
		var meta struct {
			Image string `json:"image-name"`
			Name  string `json:"name"`
		}
		_ = json.Unmarshal([]byte(list[i].Metadata), &meta)
		info := Info{Name: text(meta.Name), Image: text(meta.Image)}
		if info.Name == "" && len(list[i].Names) > 0 {
			info.Name = text(list[i].Names[0])
		}
		return info, nil
	}
	return Info{}, nil
}

// parseLogName reads the name of a log's link: POD_NAMESPACE_CONTAINER-ID.log.
func parseLogName(name string) (id string, info Info, ok bool) {
	const idLen = 64
	stem, ok := strings.CutSuffix(name, ".log")
	cut := len(stem) - idLen - 1
	if !ok || cut < 0 || stem[cut] != '-' {
		return "", info, false
	}
	parts := strings.Split(stem[:cut], "_")
	if len(parts) != 3 {
		return "", info, false
	}
	return stem[cut+1:], Info{Name: text(parts[2]), Pod: Pod{Namespace: text(parts[1]), Name: text(parts[0])}}, true
}
