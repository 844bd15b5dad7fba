mod hub;
mod kv;
mod quant;
mod sample;
mod text;
mod tidy;
