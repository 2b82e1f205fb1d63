package scenario

import (
	"context"
	"errors"
	"fmt"

	"ftpgate/internal/try/demo/ftpclient"
)

// runWithProxyTracking is act 3: every mode, and beside kernel tracking what that cannot follow.
func (s *scenario) runWithProxyTracking(ctx context.Context) error {
	s.printHeading("Every mode: a listing, a download and an upload each")
	errs := []error{s.runModes(ctx, sessionOptions{tracking: "proxy", address: s.setup.gateway}, ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT, ftpclient.EPRT)}
	if ctx.Err() == nil {
		errs = append(errs, s.runModes(ctx, sessionOptions{tracking: "proxy", mode: ", IPv6 client", address: s.setup.gateway6}, ftpclient.EPSV, ftpclient.EPRT))
	}
	if ctx.Err() == nil {
		errs = append(errs, s.compareTrackings(ctx))
	}
	return errors.Join(errs...)
}

// runModes is a session in each mode, told in one line. A client in the lab has a way to the gateway
// only: where data came, the client was told of the gateway. What v says of how goes behind the mode.
func (s *scenario) runModes(ctx context.Context, v sessionOptions, modes ...ftpclient.Mode) error {
	who := v.mode
	var errs []error
	for _, m := range modes {
		v.mode, v.quiet = string(m)+who, true
		err := s.runSession(ctx, v, s.list(m), s.download(m), s.upload(m))
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			r := s.rows[len(s.rows)-1]
			fmt.Fprintf(s.out, "     %-18s the bytes are right; %.0f MiB/s\n", v.mode, r.rate)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
