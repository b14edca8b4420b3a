#include "titan/base/span.h"

namespace titan {
namespace span_internal {

std::atomic<SpanListener*> listener = nullptr;

}  // namespace span_internal

namespace {

thread_local const char* thread_name = "thread";

}  // namespace

void SetSpanListener(SpanListener* listener) { span_internal::listener.store(listener, std::memory_order_release); }

void NameThread(const char* name) { thread_name = name; }

const char* ThreadName() { return thread_name; }

}  // namespace titan
