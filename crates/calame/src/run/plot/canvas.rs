//! A drawing surface for plotters that can be written as PDF, SVG and PNG.
//!
//! No maintained crate writes PDF with a second x axis that agrees with the first (kuva 0.6 rounds it by itself), and
//! the program must work without installed fonts, so plotters draws on a backend of our own.
//!
//! plotters' own vector and raster backends measure text differently and need a font on the machine or in the viewer.
//! Here text is drawn as outlines of the embedded DejaVu Sans, so that the three files show the same figure on any
//! machine.

use std::convert::Infallible;
use std::fmt::Write as _;

use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, TextStr};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};
use tiny_skia::{Color, FillRule, LineJoin, Paint, Path, PathBuilder, PathSegment, Pixmap, Stroke, Transform};
use ttf_parser::{Face, GlyphId};

/// Canvas units per inch. A unit is a tenth of a typographic point, because plotters uses integer coordinates.
pub(super) const UNITS_PER_INCH: u32 = 720;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// The drawn shapes in order, in canvas units from the upper left corner.
pub(super) struct Canvas {
    size: (u32, u32),
    face: Face<'static>,
    shapes: Vec<Shape>,
}

struct Shape {
    path: Path,
    /// Width of the line; `None` for a filled shape.
    stroke_width: Option<u32>,
    rgb: [u8; 3],
}

impl Canvas {
    /// An empty white canvas of `size` (width, height) in canvas units.
    pub(super) fn new(size: (u32, u32)) -> Self {
        let face = Face::parse(dejavu::sans::regular(), 0).expect("the embedded font is whole");
        Self { size, face, shapes: Vec::new() }
    }

    /// Adds a shape; a path of less than two points is skipped.
    fn push(&mut self, path: PathBuilder, stroke_width: Option<u32>, color: BackendColor) -> Drawn {
        if color.alpha > 0.0
            && let Some(path) = path.finish()
        {
            // The page is white and shapes do not overlap, so a translucent colour equals an opaque one.
            let blend = |c: u8| (f64::from(c) * color.alpha + 255.0 * (1.0 - color.alpha)) as u8;
            let (r, g, b) = color.rgb;
            self.shapes.push(Shape { path, stroke_width, rgb: [blend(r), blend(g), blend(b)] });
        }
        Ok(())
    }

    fn advance(&self, glyph: GlyphId, em: f32) -> f32 {
        let units = self.face.glyph_hor_advance(glyph).unwrap_or(0);
        f32::from(units) * em / f32::from(self.face.units_per_em())
    }

    fn glyphs(&self, text: &str) -> impl Iterator<Item = GlyphId> {
        // Glyph 0 is the font's box for missing characters.
        text.chars().map(|c| self.face.glyph_index(c).unwrap_or(GlyphId(0)))
    }

    fn text_width(&self, text: &str, em: f32) -> f32 {
        self.glyphs(text).map(|g| self.advance(g, em)).sum()
    }

    /// Height of capitals and digits, used to centre text vertically.
    fn capital_height(&self, em: f32) -> f32 {
        // The font's own field for this height is empty.
        let capital = self.face.glyph_index('H');
        let bounds = capital.and_then(|glyph| self.face.glyph_bounding_box(glyph));
        let units = bounds.map_or(0, |bounds| bounds.y_max);
        f32::from(units) * em / f32::from(self.face.units_per_em())
    }
}

// Implemented for a borrowed canvas, because plotters consumes the backend and the drawing is needed afterwards.
impl DrawingBackend for &mut Canvas {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn {
        self.push(polyline([at, (at.0 + 1, at.1)], false), Some(1), color)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        let width = Some(style.stroke_width());
        self.push(polyline(path, false), width, style.color())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (x0, y0): BackendCoord,
        (x1, y1): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let path = polyline([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], true);
        let width = (!fill).then(|| style.stroke_width());
        self.push(path, width, style.color())
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn {
        let mut path = PathBuilder::new();
        path.push_circle(x as f32, y as f32, radius as f32);
        let width = (!fill).then(|| style.stroke_width());
        self.push(path, width, style.color())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.push(polyline(path, true), None, style.color())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let em = style.size() as f32;
        let (dx, dy) = (self.text_width(text, em), self.capital_height(em));
        let anchor = style.anchor();
        let left = match anchor.h_pos {
            HPos::Left => 0.0,
            HPos::Center => -dx / 2.0,
            HPos::Right => -dx,
        };
        let baseline = match anchor.v_pos {
            VPos::Top => dy,
            VPos::Center => dy / 2.0,
            VPos::Bottom => 0.0,
        };
        let quarter_turns = match style.transform() {
            FontTransform::None => 0,
            FontTransform::Rotate90 => 1,
            FontTransform::Rotate180 => 2,
            FontTransform::Rotate270 => 3,
        };
        let mut outlines = Outlines {
            path: PathBuilder::new(),
            pen: (left, baseline),
            scale: em / f32::from(self.face.units_per_em()),
            origin: (x as f32, y as f32),
            quarter_turns,
        };
        for glyph in self.glyphs(text) {
            // A glyph without an outline, such as the space, only advances the pen.
            self.face.outline_glyph(glyph, &mut outlines);
            outlines.pen.0 += self.advance(glyph, em);
        }
        self.push(outlines.path, None, style.color())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let em = style.size() as f32;
        let (width, height) = (self.text_width(text, em), self.capital_height(em));
        Ok((width.ceil() as u32, height.ceil() as u32))
    }
}

fn polyline(points: impl IntoIterator<Item = BackendCoord>, closed: bool) -> PathBuilder {
    let mut path = PathBuilder::new();
    for (x, y) in points {
        // The builder turns a line without a start into a start.
        if path.is_empty() {
            path.move_to(x as f32, y as f32);
        } else {
            path.line_to(x as f32, y as f32);
        }
    }
    if closed {
        path.close();
    }
    path
}

/// Collects glyph outlines, converting from font units (y upwards) to canvas units (y downwards).
struct Outlines {
    path: PathBuilder,
    pen: (f32, f32),
    scale: f32,
    origin: (f32, f32),
    /// Clockwise quarter turns about the origin.
    quarter_turns: u8,
}

impl Outlines {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = (self.pen.0 + x * self.scale, self.pen.1 - y * self.scale);
        let (x, y) = match self.quarter_turns {
            0 => (x, y),
            1 => (-y, x),
            2 => (-x, -y),
            _ => (y, -x),
        };
        // A hundredth of a point is finer than any printer's resolution, and short numbers keep the files small.
        let tenth = |v: f32| (v * 10.0).round() / 10.0;
        (tenth(self.origin.0 + x), tenth(self.origin.1 + y))
    }
}

impl ttf_parser::OutlineBuilder for Outlines {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

impl Canvas {
    /// The figure as SVG, which refers to no font.
    pub(super) fn to_svg(&self, title: &str) -> String {
        let (width, height) = self.size;
        let inches = |units: u32| f64::from(units) / f64::from(UNITS_PER_INCH);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}in\" height=\"{}in\" viewBox=\"0 0 {width} {height}\">\n\
             <title>{}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            inches(width),
            inches(height),
            escape_xml(title),
        );
        for shape in &self.shapes {
            let [r, g, b] = shape.rgb;
            let paint = match shape.stroke_width {
                None => format!("fill=\"#{r:02x}{g:02x}{b:02x}\""),
                Some(stroke_width) => format!(
                    "fill=\"none\" stroke=\"#{r:02x}{g:02x}{b:02x}\" stroke-width=\"{stroke_width}\" stroke-linejoin=\"round\""
                ),
            };
            let data = svg_path_data(&shape.path);
            let _ = writeln!(svg, "<path {paint} d=\"{data}\"/>");
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The figure as a PDF of one page.
    pub(super) fn to_pdf(&self, title: &str) -> Vec<u8> {
        let points = |units: u32| units as f32 * 72.0 / UNITS_PER_INCH as f32;
        let (width, height) = (points(self.size.0), points(self.size.1));
        let mut content = Content::new();
        // PDF counts y from the bottom.
        content.transform([points(1), 0.0, 0.0, -points(1), 0.0, height]);
        content.set_line_join(LineJoinStyle::RoundJoin);
        content.set_line_cap(LineCapStyle::ButtCap);
        for shape in &self.shapes {
            let [r, g, b] = shape.rgb.map(|c| f32::from(c) / 255.0);
            pdf_path(&mut content, &shape.path);
            match shape.stroke_width {
                None => content.set_fill_rgb(r, g, b).fill_nonzero(),
                Some(stroke_width) => content.set_stroke_rgb(r, g, b).set_line_width(stroke_width as f32).stroke(),
            };
        }
        let [catalog, pages, page, contents, info] = [1, 2, 3, 4, 5].map(Ref::new);
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(pages);
        pdf.pages(pages).kids([page]).count(1);
        pdf.page(page)
            .parent(pages)
            .media_box(Rect::new(0.0, 0.0, width, height))
            .contents(contents)
            .resources()
            .finish();
        pdf.stream(contents, &content.finish());
        pdf.document_info(info).title(TextStr(title)).creator(TextStr("calame")).pair(Name(b"Trapped"), Name(b"False"));
        pdf.finish()
    }

    /// The figure as PNG with a resolution of `pixels_per_inch`.
    ///
    /// # Errors
    ///
    /// Returns the encoder's error; writing to memory can only fail for lack of memory.
    pub(super) fn to_png(&self, pixels_per_inch: u32) -> Result<Vec<u8>, String> {
        let pixels = |units: u32| units * pixels_per_inch / UNITS_PER_INCH;
        let mut pixmap =
            Pixmap::new(pixels(self.size.0), pixels(self.size.1)).expect("a figure is wider and higher than a pixel");
        pixmap.fill(Color::WHITE);
        let scale = pixels_per_inch as f32 / UNITS_PER_INCH as f32;
        let scaled = Transform::from_scale(scale, scale);
        for shape in &self.shapes {
            let [r, g, b] = shape.rgb;
            let mut paint = Paint::default();
            paint.set_color_rgba8(r, g, b, 255);
            match shape.stroke_width {
                None => pixmap.fill_path(&shape.path, &paint, FillRule::Winding, scaled, None),
                Some(stroke_width) => {
                    let stroke = Stroke { width: stroke_width as f32, line_join: LineJoin::Round, ..Stroke::default() };
                    pixmap.stroke_path(&shape.path, &paint, &stroke, scaled, None);
                }
            }
        }
        pixmap.encode_png().map_err(|error| error.to_string())
    }
}

fn svg_path_data(path: &Path) -> String {
    let mut data = String::new();
    for segment in path.segments() {
        // Writing to a string cannot fail.
        let _ = match segment {
            PathSegment::MoveTo(p) => write!(data, "M{} {}", p.x, p.y),
            PathSegment::LineTo(p) => write!(data, "L{} {}", p.x, p.y),
            PathSegment::QuadTo(c, p) => write!(data, "Q{} {} {} {}", c.x, c.y, p.x, p.y),
            PathSegment::CubicTo(c, d, p) => {
                write!(data, "C{} {} {} {} {} {}", c.x, c.y, d.x, d.y, p.x, p.y)
            }
            PathSegment::Close => write!(data, "Z"),
        };
    }
    data
}

fn pdf_path(content: &mut Content, path: &Path) {
    let mut at = tiny_skia::Point::zero();
    for segment in path.segments() {
        match segment {
            PathSegment::MoveTo(p) => {
                content.move_to(p.x, p.y);
                at = p;
            }
            PathSegment::LineTo(p) => {
                content.line_to(p.x, p.y);
                at = p;
            }
            PathSegment::QuadTo(c, p) => {
                // PDF only has cubic curves; these are the control points of the same curve.
                let toward = |a: f32, c: f32| a + (c - a) * 2.0 / 3.0;
                content.cubic_to(toward(at.x, c.x), toward(at.y, c.y), toward(p.x, c.x), toward(p.y, c.y), p.x, p.y);
                at = p;
            }
            PathSegment::CubicTo(c, d, p) => {
                content.cubic_to(c.x, c.y, d.x, d.y, p.x, p.y);
                at = p;
            }
            // The next segment of our paths is always a move.
            PathSegment::Close => {
                content.close_path();
            }
        }
    }
}

fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            // XML cannot represent these characters.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
