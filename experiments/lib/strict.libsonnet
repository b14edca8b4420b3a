// strict(base, patch): `base` with the fields of `patch` in place of its own, group by group. Names that
// titan/config/experiment.proto does not have are an error that lists them all and leads to the line of the call:
//
//   strict(llama3.pretraining('8B'), { optimizer: { weigth_decay: 0.2 } })
//   RUNTIME ERROR: optimizer.weigth_decay: unknown field; known fields: beta1, beta2, eps, lr, ...
//
// Groups are merged without `+:`; anything else, lists included, is replaced as a whole.
local schema = import 'experiments/lib/schema.libsonnet';

local join(path, name) = if path == '' then name else path + '.' + name;

// A message for every name in `value` that `known`, the part of the schema at `path`, does not have.
local unknown(value, known, path) =
  if std.isObject(value) && std.isObject(known) then
    std.flatMap(
      function(name)
        if std.objectHas(known, name) then
          unknown(value[name], known[name], join(path, name))
        else
          ['%s: unknown field; known fields: %s' % [join(path, name), std.join(', ', std.objectFields(known))]],
      std.objectFields(value)
    )
  else if std.isArray(value) && std.isArray(known) && std.length(known) == 1 then
    std.flattenArrays(std.mapWithIndex(function(i, element) unknown(element, known[0], join(path, '%d' % i)), value))
  else
    [];

local merged(base, patch) =
  if std.isObject(base) && std.isObject(patch) then
    base {
      [name]: if std.objectHas(base, name) then merged(base[name], patch[name]) else patch[name]
      for name in std.objectFields(patch)
    }
  else
    patch;

function(base, patch={})
  local errors = unknown(base, schema, '') + unknown(patch, schema, '');
  if errors == [] then merged(base, patch) else error std.join('\n', errors)
