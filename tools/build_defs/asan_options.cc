// What AddressSanitizer's runtime asks a program at its start.
//
// The runtime of GCC 12 ends a process that annotates a container which begins in the middle of a word, as protobuf's
// small repeated fields do.

extern "C" const char* __asan_default_options() { return "detect_container_overflow=0"; }
