//! The JSON schema of a run's settings, for editors: made from the types and their documentation.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::config::RunConfig;
use super::recipe::Recipe;
use crate::model::{Activation, Preset};
use crate::ops::{Isa, Precision};

impl RunConfig {
    /// The JSON schema (draft 7) of `config.toml` and of files with any of its keys: types, choices, defaults, and the
    /// documentation of each key as its description.
    pub fn json_schema() -> Value {
        let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
        let mut schema = settings.into_generator().into_root_schema_for::<RunConfig>().to_value();
        simplify(&mut schema);
        schema["title"] = json!("Settings of a calame run");
        for (path, choices) in choices() {
            let property = schema.pointer_mut(path).expect("the schema has every key of the settings");
            property["enum"] = json!(choices);
        }
        schema
    }
}

/// The schema of a setting that is a whole number or `"off"`.
pub(super) fn number_or_off(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "oneOf": [
        { "type": "integer", "minimum": 1, "description": "This number." },
        { "type": "string", "const": "off", "description": "No limit." },
    ] })
}

/// The choices of keys that the types store as strings, by JSON pointer.
fn choices() -> [(&'static str, Vec<&'static str>); 6] {
    let auto = |names: Vec<&'static str>| [names, vec!["auto"]].concat();
    [
        ("/properties/preset", [Preset::ALL.map(Preset::name).to_vec(), vec!["custom"]].concat()),
        ("/properties/recipe", Recipe::ALL.map(Recipe::name).to_vec()),
        ("/properties/model/properties/activation", Activation::ALL.map(Activation::name).to_vec()),
        ("/properties/device/properties/device", auto(vec!["cpu"])),
        ("/properties/device/properties/precision", auto(Precision::ALL.map(Precision::name).to_vec())),
        ("/properties/device/properties/instruction_set", auto(Isa::ALL.map(Isa::name).to_vec())),
    ]
}

/// Removes what does not help an editor: required keys (a file may set a few), names of Rust's number types, and the
/// markup of Rust's documentation.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            // A map of properties may have a key of any name; a keyword of the schema has a fixed type.
            object
                .retain(|key, value| !(key == "required" && value.is_array() || key == "format" && value.is_string()));
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = plain(text);
            }
            object.values_mut().for_each(simplify);
        }
        Value::Array(values) => values.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// A doc comment as one line, without links.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a value with the part of the schema's language that [`RunConfig::json_schema`] uses.
    fn check(path: &str, value: &Value, schema: &Value) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{path} is {value}: {what} in {schema}"));
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice: &Value| check(path, value, choice).is_ok();
            return if choices.iter().any(fits) { Ok(()) } else { wrong("no choice") };
        }
        let is_of = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("{path}: the type {other}"),
        };
        if !schema["type"].as_str().is_some_and(is_of) {
            return wrong("another type");
        }
        if schema.get("const").is_some_and(|only| only != value)
            || schema["enum"].as_array().is_some_and(|choices| !choices.contains(value))
        {
            return wrong("not a choice");
        }
        if schema["minimum"].as_f64().is_some_and(|least| value.as_f64().is_some_and(|x| x < least)) {
            return wrong("too small");
        }
        for item in value.as_array().into_iter().flatten() {
            check(path, item, &schema["items"])?;
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            let Some(property) = schema["properties"].get(key) else { return wrong(&format!("no key {key}")) };
            check(&format!("{path}.{key}"), value, property)?;
        }
        Ok(())
    }

    fn settings(preset: Preset, recipe: Recipe) -> Value {
        let mut config = RunConfig::of_preset(preset);
        recipe.apply(&mut config);
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn the_settings_of_every_preset_and_recipe_are_valid() {
        let schema = RunConfig::json_schema();
        for preset in Preset::ALL {
            for recipe in Recipe::ALL {
                assert_eq!(check("", &settings(preset, recipe), &schema), Ok(()));
            }
        }
        let mut custom = settings(Preset::Tiny, Recipe::Book);
        custom["preset"] = json!("custom");
        custom["data"]["inputs"] = json!(["a.txt"]);
        assert_eq!(check("", &custom, &schema), Ok(()));
    }

    #[test]
    fn every_key_is_described_and_no_other_is_accepted() {
        fn walk(path: &str, value: &Value, schema: &Value) {
            for (key, value) in value.as_object().into_iter().flatten() {
                let (path, property) = (format!("{path}.{key}"), &schema["properties"][key]);
                let description = property["description"].as_str().unwrap_or_default();
                assert!(description.split(' ').count() > 2, "{path}: {property}");
                assert!(!description.contains("[`") && !description.contains('\n'), "{path}: {description}");
                walk(&path, value, property);
            }
            if value.is_object() {
                assert_eq!(schema["additionalProperties"], false, "{path}");
                assert_eq!(schema["properties"].as_object().unwrap().len(), value.as_object().unwrap().len(), "{path}");
                // A file may set a few keys only.
                assert_eq!(schema.get("required"), None, "{path}");
            }
        }
        walk("", &settings(Preset::Tiny, Recipe::Book), &RunConfig::json_schema());
    }

    #[test]
    fn wrong_values_are_found() {
        let schema = RunConfig::json_schema();
        let with = |pointer: &str, value: Value| {
            let mut settings = settings(Preset::Tiny, Recipe::Book);
            *settings.pointer_mut(pointer).unwrap() = value;
            check("", &settings, &schema)
        };
        assert_eq!(with("/train/lr", json!(0.5)), Ok(()));
        for (pointer, value) in [
            ("/train/lr", json!("fast")),
            ("/train/epochs", json!(-1)),
            ("/train/rng", json!("numpy")),
            ("/preset", json!("gpt9")),
            ("/device/precision", json!("fp8")),
            ("/data/inputs", json!([1])),
            ("/model", json!({ "n_heads": 2 })),
        ] {
            assert!(with(pointer, value.clone()).is_err(), "{pointer} = {value}");
        }
    }
}
