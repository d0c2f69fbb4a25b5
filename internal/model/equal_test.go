package model

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// TestEqualComparesEveryField changes one field after the other and expects Equal to
// notice, so that a field added later cannot be forgotten there.
func TestEqualComparesEveryField(t *testing.T) {
	ignored := map[string]bool{"EndpointSlice.TriggerTime": true} // only measurements read it
	check := func(name string, sample any, equal func(a, b any) bool) {
		typ := reflect.TypeOf(sample)
		if !equal(pointerTo(sample), pointerTo(sample)) {
			t.Errorf("%s: not equal to itself", name)
		}
		for i := range typ.NumField() {
			changed := reflect.New(typ).Elem()
			changed.Set(reflect.ValueOf(sample))
			alter(t, changed.Field(i))
			field := name + "." + typ.Field(i).Name
			if got := equal(pointerTo(sample), changed.Addr().Interface()); got != ignored[field] {
				t.Errorf("%s: Equal = %v after a change", field, got)
			}
		}
	}
	check("Service", Service{}, func(a, b any) bool { return a.(*Service).Equal(b.(*Service)) })
	check("EndpointSlice", EndpointSlice{}, func(a, b any) bool { return a.(*EndpointSlice).Equal(b.(*EndpointSlice)) })
	check("Endpoint", Endpoint{}, func(a, b any) bool { return a.(*Endpoint).Equal(b.(*Endpoint)) })
	check("About", About{}, func(a, b any) bool { return a.(*About).Equal(b.(*About)) })
	check("Node", Node{}, func(a, b any) bool { return a.(*Node).Equal(b.(*Node)) })
	check("Pod", Pod{}, func(a, b any) bool { return a.(*Pod).Equal(b.(*Pod)) })
}

func pointerTo(sample any) any {
	p := reflect.New(reflect.TypeOf(sample))
	p.Elem().Set(reflect.ValueOf(sample))
	return p.Interface()
}

// alter gives a field of zero value another value.
func alter(t *testing.T, field reflect.Value) {
	switch field.Interface().(type) {
	case netip.Addr:
		field.Set(reflect.ValueOf(netip.MustParseAddr("10.0.0.1")))
		return
	case time.Time:
		field.Set(reflect.ValueOf(time.Unix(1, 0)))
		return
	case *About:
		field.Set(reflect.ValueOf(&About{Node: "x"}))
		return
	case ServiceKey:
		field.Set(reflect.ValueOf(ServiceKey{"shop", "web"}))
		return
	}
	switch field.Kind() {
	case reflect.Bool:
		field.SetBool(true)
	case reflect.String:
		field.SetString("x")
	case reflect.Uint8, reflect.Uint16:
		field.SetUint(1)
	case reflect.Int64:
		field.SetInt(1)
	case reflect.Slice:
		element := reflect.New(field.Type().Elem()).Elem()
		field.Set(reflect.Append(reflect.MakeSlice(field.Type(), 0, 1), element))
	case reflect.Map:
		field.Set(reflect.MakeMap(field.Type()))
		field.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf("v"))
	default:
		t.Fatalf("no other value for %s", field.Type())
	}
}

func TestEqualOfNothing(t *testing.T) {
	var none *Service
	if !none.Equal(nil) || none.Equal(&Service{}) || (&Service{}).Equal(nil) {
		t.Error("a missing Service equals a missing one alone")
	}
	var slice *EndpointSlice
	if !slice.Equal(nil) || slice.Equal(&EndpointSlice{}) || (&EndpointSlice{}).Equal(nil) {
		t.Error("a missing EndpointSlice equals a missing one alone")
	}
	var node *Node
	if !node.Equal(nil) || node.Equal(&Node{}) || (&Node{}).Equal(nil) {
		t.Error("a missing Node equals a missing one alone")
	}
	var pod *Pod
	if !pod.Equal(nil) || pod.Equal(&Pod{}) || (&Pod{}).Equal(nil) {
		t.Error("a missing Pod equals a missing one alone")
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		ServiceKey{"shop", "web"}.String(): "shop/web",
		ClusterIP.String():                 "ClusterIP", NodePort.String(): "NodePort",
		LoadBalancer.String(): "LoadBalancer", ExternalName.String(): "ExternalName",
		Cluster.String(): "Cluster", Local.String(): "Local",
		TCP.String(): "TCP", UDP.String(): "UDP", SCTP.String(): "SCTP",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestServiceKeysSortByNamespaceFirst(t *testing.T) {
	for _, test := range []struct {
		a, b ServiceKey
		want int
	}{
		{ServiceKey{"a", "z"}, ServiceKey{"b", "a"}, -1},
		{ServiceKey{"a", "b"}, ServiceKey{"a", "a"}, 1},
		{ServiceKey{"a", "a"}, ServiceKey{"a", "a"}, 0},
	} {
		if got := test.a.Compare(test.b); got != test.want {
			t.Errorf("%s compared with %s: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
