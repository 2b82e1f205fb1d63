package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestNeeds: a key that changes nothing is a fault at the key, with each tracking and each way of FTPS that
// it does not fit, and only there.
func TestNeeds(t *testing.T) {
	trackings := map[string][]Value{
		"proxy":  nil,
		"kernel": {{"tracking", "kernel"}},
		"none":   {{"tracking", "none"}, {"server_ports", "40000-40100"}},
	}
	tested := 0
	for _, k := range keys {
		if k.Needs == "" {
			continue
		}
		tested++
		for tracking, with := range trackings {
			given := append([]Value{{"listen", ":2121"}, {"server", "203.0.113.21"}}, with...)
			given = append(given, Value{k.Name, strings.Trim(k.Example, `[]"`)})
			if k.Name == "send_proxy_protocol_data" {
				given = append(given, Value{"send_proxy_protocol", "v2"})
			}
			want := ""
			switch {
			case tracking != "proxy":
				want = k.Name + " is for tracking proxy; tracking " + tracking +
					" leaves the dialogue as it is"
			case k.Needs != NeedProxy:
				want = k.Name + " has no effect while " + string(k.Needs) + " is off: set " +
					string(k.Needs) +
					` = "required", or leave ` + k.Name + " out"
			}
			_, err := FromValues(false, given)
			if got := onlyText(err, k.Name); got != want {
				t.Errorf("%s with tracking %s: got %q; want %q", k.Name, tracking, got, want)
			}
		}
	}
	if tested < 25 {
		t.Errorf("got %d keys that need something; want all of them", tested)
	}
}

// TestNeedsMet: with the side that speaks TLS, its keys are sound.
func TestNeedsMet(t *testing.T) {
	for _, k := range keys {
		given := []Value{{"listen", ":2121"}, {"server", "203.0.113.21"}}
		switch k.Needs {
		case NeedClientTLS:
			given = append(given, Value{"tls.client", "required"})
			if k.Name != "tls.cert" {
				given = append(given, Value{"tls.cert", "c.pem"})
			}
			if k.Name == "tls.client_auth" || k.Name == "tls.client_crl" {
				given = append(given, Value{"tls.client_ca", "ca.pem"})
			}
		case NeedServerTLS:
			given = append(given, Value{"tls.server", "required"})
			if k.Name == "tls.client_key" {
				given = append(given, Value{"tls.client_cert", "c.pem"})
			}
		default:
			continue
		}
		given = append(given, Value{k.Name, strings.Trim(k.Example, `[]"`)})
		if _, err := FromValues(false, given); err != nil {
			t.Errorf("%s: got %v; want no fault", k.Name, err)
		}
	}
}

// onlyText returns the text of the only fault at a key; "" without a fault there.
func onlyText(err error, key string) string {
	faults, _ := err.(Faults)
	var texts []string
	for _, f := range faults {
		if f.Key == key {
			texts = append(texts, f.Text)
		}
	}
	return strings.Join(texts, "\n")
}

// TestNeedsDefault: the default written out is no fault, whatever the tracking.
func TestNeedsDefault(t *testing.T) {
	given := []Value{{"listen", ":2121"}, {"server", "203.0.113.21"}, {"tracking", "kernel"}}
	without, err := FromValues(false, given)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if len(k.words) == 0 && !k.IsBool() || k.Needs == "" {
			continue // a limit or a range says more than nothing
		}
		with, err := FromValues(false, append(given[:len(given):len(given)], Value{k.Name, k.Default}))
		if err != nil || !reflect.DeepEqual(with, without) {
			t.Errorf("%s = %s: got %+v, error %v; want %+v", k.Name, k.Default, with, err, without)
		}
	}
}
