// strict(base, patch): `base` with the fields of `patch` in place of its own, group by group; a name that
// titan/config/experiment.proto does not have is an error at once:
//
//   strict(llama3.pretraining('8B'), { optimizer: { weigth_decay: 0.2 } })
//   RUNTIME ERROR: optimizer.weigth_decay: unknown field; known fields: beta1, beta2, eps, lr, ...
//
// Groups are merged without `+:`; anything else, lists included, is replaced as a whole.
local schema = import 'experiments/lib/schema.libsonnet';

local join(path, name) = if path == '' then name else path + '.' + name;

// `value`, once every name in it is known. `known` is the part of the schema at `path`.
local checked(value, known, path) =
  if std.isObject(value) && std.isObject(known) then
    {
      [name]:
        if std.objectHas(known, name) then
          checked(value[name], known[name], join(path, name))
        else
          error '%s: unknown field; known fields: %s' % [join(path, name), std.join(', ', std.objectFields(known))]
      for name in std.objectFields(value)
    }
  else if std.isArray(value) && std.isArray(known) && std.length(known) == 1 then
    std.mapWithIndex(function(i, element) checked(element, known[0], join(path, '%d' % i)), value)
  else
    value;

local merged(base, patch) =
  if std.isObject(base) && std.isObject(patch) then
    base {
      [name]: if std.objectHas(base, name) then merged(base[name], patch[name]) else patch[name]
      for name in std.objectFields(patch)
    }
  else
    patch;

function(base, patch={}) merged(checked(base, schema, ''), checked(patch, schema, ''))
