// Stands in for LibTorch: a library that the fake trainer cannot start without.
extern "C" int TitanFakeLibrary() { return 42; }
