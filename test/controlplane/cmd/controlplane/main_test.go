package main

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/test/controlplane"
)

func TestUpOptions(t *testing.T) {
	got, err := upOptions([]string{
		"-advertise-address=172.30.0.254", "-port=26443", "-san=10.0.2.2", "-san=api.test",
		"-user=proxy:secret:mooring,system:nodes", "-user=dns:other", "-scheduler",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got.AdvertiseAddress.String() != "172.30.0.254" || got.SecurePort != 26443 || !got.Scheduler {
		t.Errorf("options %+v", got)
	}
	if diff := cmp.Diff([]string{"10.0.2.2", "api.test"}, got.ExtraSANs); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	want := []controlplane.User{
		{Name: "proxy", Token: "secret", Groups: []string{"mooring", "system:nodes"}},
		{Name: "dns", Token: "other"},
	}
	if diff := cmp.Diff(want, got.Users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
}

func TestBadCommandLines(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"nothing":            {nil, `command ""`},
		"unknown command":    {[]string{"down"}, `command "down"`},
		"stray argument":     {[]string{"up", "now"}, `unexpected argument "now"`},
		"port too large":     {[]string{"up", "-port=70000"}, "port 70000"},
		"user without token": {[]string{"up", "-user=dns"}, "name:token"},
		"unknown program":    {[]string{"build", "kube-router"}, "kube-router"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), tt.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
