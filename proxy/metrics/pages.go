package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The pages /statusz and /flagz of Kubernetes' components (KEP-4827, KEP-4828): text for people,
// or the object of config.k8s.io for who accepts that.

const component = "mooring-proxy"

// notStable is what the KEPs have above the text.
const notStable = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only."

// object is what both objects begin with.
type object struct {
	Kind       string            `json:"kind"`
	APIVersion string            `json:"apiVersion"`
	Metadata   map[string]string `json:"metadata"`
}

type statusz struct {
	object
	StartTime     time.Time `json:"startTime"`
	UptimeSeconds int64     `json:"uptimeSeconds"`
	GoVersion     string    `json:"goVersion"`
	BinaryVersion string    `json:"binaryVersion"`
	Paths         []string  `json:"paths"`
}

type flagz struct {
	object
	Flags map[string]string `json:"flags"`
}

// page answers by the text, or by what the object is for its version.
func page(name, kind string, text func() string, structured func(object) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		accepted := r.Header.Values("Accept")
		version, asked := versionOf(accepted, kind)
		switch {
		case asked:
			w.Header().Set("Content-Type", "application/json")
			head := object{Kind: kind, APIVersion: "config.k8s.io/" + version, Metadata: map[string]string{"name": component}}
			json.NewEncoder(w).Encode(structured(head)) //nolint:errcheck,errchkjson // the client has gone
		case acceptsText(accepted):
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "\n%s %s\n%s\n\n%s", component, name, notStable, text())
		default:
			http.Error(w, "accept text/plain, or application/json;g=config.k8s.io;v=v1beta1;as="+kind, http.StatusNotAcceptable)
		}
	}
}

// versionOf gives the version of the object, if one is asked for.
func versionOf(accepted []string, kind string) (version string, asked bool) {
	for _, one := range mediaTypes(accepted) {
		name, parameters, err := mime.ParseMediaType(one)
		known := parameters["v"] == "v1beta1" || parameters["v"] == "v1alpha1"
		if err == nil && name == "application/json" && known && parameters["g"] == "config.k8s.io" && parameters["as"] == kind {
			return parameters["v"], true
		}
	}
	return "", false
}

func acceptsText(accepted []string) bool {
	types := mediaTypes(accepted)
	return len(types) == 0 || slices.ContainsFunc(types, func(one string) bool {
		name, _, err := mime.ParseMediaType(one)
		return err == nil && slices.Contains([]string{"text/plain", "text/*", "*/*"}, name)
	})
}

func mediaTypes(accepted []string) []string {
	var types []string
	for one := range strings.SplitSeq(strings.Join(accepted, ","), ",") {
		if one = strings.TrimSpace(one); one != "" {
			types = append(types, one)
		}
	}
	return types
}

func (m *Metrics) statusz(version string, paths []string) http.HandlerFunc {
	up := func() time.Duration { return time.Since(m.started).Truncate(time.Second) }
	return page("statusz", "Statusz", func() string {
		return fmt.Sprintf("Started: %s\nUp: %s\nGo version: %s\nBinary version: %s\nPaths: %s\n",
			m.started.Format(time.UnixDate), up(), runtime.Version(), version, strings.Join(paths, " "))
	}, func(head object) any {
		return statusz{head, m.started.UTC().Truncate(time.Second), int64(up().Seconds()), runtime.Version(), version, paths}
	})
}

func flagzPage(flags map[string]string) http.HandlerFunc {
	return page("flagz", "Flagz", func() string {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(flags)) {
			fmt.Fprintf(&b, "%s=%s\n", name, flags[name])
		}
		return b.String()
	}, func(head object) any { return flagz{head, flags} })
}
