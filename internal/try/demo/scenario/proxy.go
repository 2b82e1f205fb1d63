package scenario

import (
	"context"
	"errors"
	"fmt"

	"ftpgate/internal/ftpclient"
)

// withProxyTracking is act 3: every mode, and beside kernel tracking what that cannot follow.
func (s *story) withProxyTracking(ctx context.Context) error {
	s.scene("Every mode: a listing, a download and an upload each")
	errs := []error{s.everything(ctx, visit{way: "proxy", at: s.cast.listen}, ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT, ftpclient.EPRT)}
	if ctx.Err() == nil {
		errs = append(errs, s.everything(ctx, visit{way: "proxy", how: ", IPv6 client", at: s.cast.listen6}, ftpclient.EPSV, ftpclient.EPRT))
	}
	if ctx.Err() == nil {
		errs = append(errs, s.sideBySide(ctx))
	}
	return errors.Join(errs...)
}

// everything is a session in each mode, told in one line. A client in the lab has a way to the gateway
// only: where data came, the client was told of the gateway. What v says of how goes behind the mode.
func (s *story) everything(ctx context.Context, v visit, modes ...ftpclient.Mode) error {
	who := v.how
	var errs []error
	for _, m := range modes {
		v.how, v.quiet = string(m)+who, true
		err := s.session(ctx, v, s.listing(m), s.downloading(m), s.uploading(m))
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			r := s.table[len(s.table)-1]
			fmt.Fprintf(s.out, "     %-18s the bytes are right; %.0f MiB/s\n", v.how, r.rate)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
