//! What is known of the images of each cloud.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::plan::images::Image;
use crate::plan::input::Document;
use crate::text;

/// What is known of the images of one cloud.
#[derive(Debug, Default)]
pub(super) struct Cloud {
    /// As `--os-cloud` has it.
    pub(super) name: String,
    /// Whether it is to have the image; else it may only give it.
    pub(super) is_to_have_it: bool,
    /// By their ids.
    pub(super) images: BTreeMap<String, Image>,
}

/// By what the cloud of a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    Hand,
    Folder,
}

/// What one cloud printed, and where that is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) cloud: String,
    pub(crate) file: PathBuf,
    pub(crate) named_by: NamedBy,
}

impl Source {
    /// The cloud of a file, and the file: `cloudA=vm.json`, or the folder that it is in.
    ///
    /// # Errors
    ///
    /// That nothing says which cloud it is.
    pub(crate) fn of(argument: &Path) -> Result<Source, String> {
        let shown = argument.to_string_lossy();
        if let Some((cloud, file)) = shown.split_once('=')
            && !cloud.is_empty()
            && !cloud.contains('/')
        {
            return Ok(Source {
                cloud: cloud.to_string(),
                file: file.into(),
                named_by: NamedBy::Hand,
            });
        }
        // `<(openstack …)` is such a name.
        let is_the_kernels = argument.starts_with("/dev") || argument.starts_with("/proc");
        let folder = argument.parent().and_then(Path::file_name);
        match folder.filter(|_| !is_the_kernels) {
            Some(folder) => Ok(Source {
                cloud: folder.to_string_lossy().into_owned(),
                file: argument.into(),
                named_by: NamedBy::Folder,
            }),
            None => Err(of_which_cloud(argument)),
        }
    }
}

/// Asks for the name of a file's cloud.
pub(crate) fn of_which_cloud(file: &Path) -> String {
    format!(
        "of which cloud is {}? Name it as CLOUD={0}, or put it into a folder of the cloud's name",
        text::printable(&file.to_string_lossy())
    )
}

/// That several files are of one cloud, where it is their folder alone that says so.
pub(crate) fn one_folder_for_all(sources: &[Source]) -> Option<String> {
    let [first, rest @ ..] = sources else {
        return None;
    };
    let is_alone = !rest.is_empty() && rest.iter().all(|other| other.cloud == first.cloud);
    let by_folder = |source: &Source| source.named_by == NamedBy::Folder;
    (is_alone && sources.iter().any(by_folder)).then(|| {
        format!(
            "all files are of one cloud, {}, by the name of their folder, and nothing is copied; if they \
             are of several, name each as CLOUD=FILE",
            text::excerpt(&first.cloud)
        )
    })
}

/// The clouds, in the order in which they were given.
#[derive(Debug, Default)]
pub(crate) struct Clouds(Vec<Cloud>);

impl Clouds {
    /// Adds what `image show` or `image list --long` printed of a cloud.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn add(&mut self, cloud: &str, documents: &[Document]) -> anyhow::Result<()> {
        for document in documents {
            let root = document.root();
            match root.value().is_object() {
                true => self.cloud(cloud).take(Image::read(&root)?),
                false => self.add_list(cloud, document)?,
            }
        }
        self.cloud(cloud);
        Ok(())
    }

    /// Adds a list of all images of a cloud that is to have the image.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub(crate) fn add_target(&mut self, cloud: &str, list: &Document) -> anyhow::Result<()> {
        self.add_list(cloud, list)?;
        self.cloud(cloud).is_to_have_it = true;
        Ok(())
    }

    fn add_list(&mut self, cloud: &str, list: &Document) -> anyhow::Result<()> {
        let images = list.root().list("images")?;
        for image in &images {
            let image = Image::read(image)?;
            self.cloud(cloud).take(image);
        }
        self.cloud(cloud);
        Ok(())
    }

    fn cloud(&mut self, name: &str) -> &mut Cloud {
        let known = self.0.iter().position(|cloud| cloud.name == name);
        let at = known.unwrap_or_else(|| {
            self.0.push(Cloud {
                name: name.to_string(),
                ..Cloud::default()
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// All of them. Where none is to have the image, all are.
    pub(super) fn all(mut self) -> Vec<Cloud> {
        let has_target = self.0.iter().any(|cloud| cloud.is_to_have_it);
        for cloud in &mut self.0 {
            cloud.is_to_have_it |= !has_target;
        }
        self.0
    }

    pub(super) fn have_none(&self) -> bool {
        self.0.iter().all(|cloud| cloud.images.is_empty())
    }

    /// The one name of those that were shown each by itself, which have a date.
    pub(super) fn only_name(&self) -> Option<&str> {
        let shown = self.0.iter().flat_map(|cloud| cloud.images.values());
        let mut names = shown
            .filter(|image| image.created_at.is_some())
            .map(|image| image.name.as_str());
        let first = names.next()?;
        names.all(|name| name == first).then_some(first)
    }
}

impl Cloud {
    /// Of two that are the same one what `image show` printed counts, which says more.
    fn take(&mut self, image: Image) {
        let known = self.images.get(&image.id);
        if known.is_none_or(|known| known.created_at.is_none()) {
            self.images.insert(image.id.clone(), image);
        }
    }

    pub(super) fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Image> {
        let name = name.to_string();
        self.images.values().filter(move |image| image.name == name)
    }
}
