package forward

import (
	"testing"
)

func TestUsualPath(t *testing.T) {
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
		"kernel tracking":     {func(f *Forward) { f.Tracking = TrackingKernel }, true, DataKernel},
	} {
		f := Forward{Tracking: TrackingProxy}
		tt.change(&f)
		if got := f.UsualPath(tt.kernelUsable); got != tt.want {
			t.Errorf("%s: got %s; want %s", name, got, tt.want)
		}
	}
}
