package forward

// UsualPath returns what carries the data connections of the forward: DataKernel, DataRelay, or DataAuto if
// that depends on what the client encrypts, or on whether a PROXY protocol header comes first. kernelUsable
// reports whether this process may have tables in the kernel.
func (f Forward) UsualPath(kernelUsable bool) DataPath {
	switch always, mayBe := f.encryptsData(); {
	case !kernelUsable || f.Data == DataRelay && f.Tracking == TrackingProxy || always:
		return DataRelay
	case mayBe, len(f.Balancers) > 0 && f.Data != DataKernel, f.SendProxyProtocolData:
		return DataAuto
	}
	return DataKernel
}
