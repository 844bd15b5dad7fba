mod quant;
mod text;
