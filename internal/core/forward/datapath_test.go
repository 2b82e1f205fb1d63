package forward

import (
	"net/netip"
	"testing"
)

func TestUsualPath(t *testing.T) {
	balancers := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/28")}
	for name, tt := range map[string]struct {
		change       func(*Forward)
		kernelUsable bool
		want         DataPath
	}{
		"auto":                {func(*Forward) {}, true, DataKernel},
		"no privilege":        {func(*Forward) {}, false, DataRelay},
		"relay forced":        {func(f *Forward) { f.Data = DataRelay }, true, DataRelay},
		"client may encrypt":  {func(f *Forward) { f.TLS.Client = ClientTLSOptional }, true, DataAuto},
		"client must encrypt": {func(f *Forward) { f.TLS.Client = ClientTLSRequired }, true, DataRelay},
		"server encrypts":     {func(f *Forward) { f.TLS.Server = ServerTLSRequired }, true, DataRelay},
		"behind a balancer":   {func(f *Forward) { f.Balancers = balancers }, true, DataAuto},
		"behind a balancer, by the kernel": {func(f *Forward) { f.Balancers, f.Data = balancers, DataKernel },
			true, DataKernel},
		"a header on data": {func(f *Forward) { f.SendProxyProtocolData = true }, true, DataAuto},
		"kernel tracking":  {func(f *Forward) { f.Tracking = TrackingKernel }, true, DataKernel},
	} {
		f := Forward{Tracking: TrackingProxy}
		tt.change(&f)
		if got := f.UsualPath(tt.kernelUsable); got != tt.want {
			t.Errorf("%s: got %s; want %s", name, got, tt.want)
		}
	}
}
