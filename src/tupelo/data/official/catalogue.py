"""The data sets that are known by name: what they hold, how they are split, where they come from.

Counts are those of the papers and are what a check compares with. A checksum stands here only
where the publisher or two independent users state it; "" means that none was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tupelo.errors import InputError


@dataclass(frozen=True)
class Count:
    """Pictures and classes of a part; `also` is another published count, and `why` it differs."""

    pictures: int | None
    classes: int
    also: tuple[int, int] | None = None
    why: str = ""


@dataclass(frozen=True)
class Archive:
    """A file as published; unpacked `into` a folder of the data set, or put there if it is none.

    Args:
        name: of the file.
        into: folder below that of the data set.
        url: a plain file that anyone may fetch, or "".
        md5, sha256: of the file, or "".
        size: bytes, or None where not known for certain.
        needed: whether the data set is incomplete without it.
    """

    name: str
    into: str = ""
    url: str = ""
    md5: str = ""
    sha256: str = ""
    size: int | None = None
    needed: bool = True


@dataclass(frozen=True)
class Compact:
    """A smaller form for tests: its folder, the file it is recognised by, its own counts."""

    folder: str
    mark: str
    counts: Mapping[str, Count]
    files: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class DataSet:
    """One entry; texts are for people, the rest for readers and checks."""

    name: str
    title: str
    what: str
    counts: Mapping[str, Count]
    protocol: str
    measured: str
    licence: str
    terms: str
    where: str
    tree: str
    citation: str
    archives: tuple[Archive, ...] = ()
    folders: tuple[str, ...] = ()
    compact: Compact | None = None

    @property
    def downloadable(self) -> bool:
        """Whether a plain file is offered for all that is needed."""
        needed = [archive for archive in self.archives if archive.needed]
        return bool(needed) and all(archive.url for archive in needed)


_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FIGSHARE = "https://ndownloader.figshare.com/files/"
_IDX_TREE = """\
{folder}/
  train-images-idx3-ubyte.gz   or without .gz; a folder raw/ of them is found too
  train-labels-idx1-ubyte.gz
  t10k-images-idx3-ubyte.gz
  t10k-labels-idx1-ubyte.gz"""
_TEN = {"train": Count(60_000, 10), "test": Count(10_000, 10)}

_ENTRIES = (
    DataSet(
        name="cub200",
        title="CUB-200-2011",
        what="photographs of 200 bird species",
        counts={"train": Count(5_864, 100), "test": Count(5_924, 100)},
        protocol="classes 1-100 train, 101-200 test: new species. The publisher's own split "
        "shares all classes and is not used. boxes=True cuts to the published boxes; papers "
        "mostly use whole pictures",
        measured="Recall@1, 2, 4, 8; each test picture searches all others",
        licence="research",
        terms="no licence file; Caltech offers it for non-commercial research and education, the "
        "photographs belong to their owners",
        where="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        tree="""\
cub200/                         or CUB_200_2011/
  images.txt                    1 001.Black_footed_Albatross/..._0046_18.jpg
  image_class_labels.txt        1 1
  classes.txt                   1 001.Black_footed_Albatross
  bounding_boxes.txt            1 60.0 27.0 325.0 304.0
  images/001.Black_footed_Albatross/*.jpg""",
        citation="Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 "
        "Dataset. Caltech, CNS-TR-2011-001, 2011",
        archives=(
            Archive(
                "CUB_200_2011.tgz",
                url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                md5="97eceeb196236b17998738112f37df78",
            ),
        ),
        folders=("CUB_200_2011",),
        compact=Compact(
            "cub200_half",
            "cub200_100classes_72.zip",
            {"train": Count(3_428, 58), "test": Count(2_474, 42)},
            ("labels.csv",),
            "100 of the 200 classes, cut to the bird, 72 pixels",
        ),
    ),
    DataSet(
        name="cars196",
        title="Cars196 (Stanford Cars)",
        what="photographs of 196 car models",
        counts={"train": Count(8_054, 98), "test": Count(8_131, 98)},
        protocol="classes 1-98 train, 99-196 test: new models; the publisher's halves are pooled. "
        "boxes=True cuts to the published boxes; papers mostly use whole pictures",
        measured="Recall@1, 2, 4, 8; each test picture searches all others",
        licence="research",
        terms="not stated; research use by custom",
        where="https://ai.stanford.edu/~jkrause/cars/car_dataset.html (no longer answers; copies "
        "are with those who have it)",
        tree="""\
cars196/
  car_ims/000001.jpg ... 016185.jpg
  cars_annos.mat
or, as the classification challenge has it
cars196/
  cars_train/00001.jpg ... 08144.jpg
  cars_test/00001.jpg ... 08041.jpg
  devkit/cars_meta.mat, cars_train_annos.mat, cars_test_annos_withlabels.mat""",
        citation="Krause, Stark, Deng, Fei-Fei: 3D Object Representations for Fine-Grained "
        "Categorization. ICCV workshop 3dRR, 2013",
        archives=(
            Archive("car_ims.tgz", md5="d5c8f0aa497503f355e17dc7886c3f14", needed=False),
            Archive("cars_annos.mat", md5="b407c6086d669747186bd1d764ff9dbc", needed=False),
            Archive("cars_train.tgz", needed=False),
            Archive("cars_test.tgz", needed=False),
            Archive("car_devkit.tgz", md5="c3b158d763b6e2245038c8ad08e45376", needed=False),
            Archive("cars_test_annos_withlabels.mat", needed=False),
        ),
        folders=("stanford_cars", "StanfordCars", "Cars196"),
        compact=Compact(
            "cars196",
            "cars196_train_bbox64.zip",
            {"train": Count(4_052, 98), "test": Count(4_092, 98)},
            ("class_names.txt",),
            "the 8,144 pictures of the publisher's training half, cut to the car, 64 pixels",
        ),
    ),
    DataSet(
        name="sop",
        title="Stanford Online Products",
        what="photographs of 22,634 products on sale",
        counts={"train": Count(59_551, 11_318), "test": Count(60_502, 11_316)},
        protocol="the two published lists: new products",
        measured="Recall@1, 10, 100, 1000; each test picture searches all others",
        licence="research",
        terms="not stated; research use by custom",
        where="https://cvgl.stanford.edu/projects/lifted_struct/",
        tree="""\
sop/                            or Stanford_Online_Products/
  Ebay_train.txt                image_id class_id super_class_id path
  Ebay_test.txt
  bicycle_final/*.JPG, cabinet_final/, ...""",
        citation="Oh Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured "
        "Feature Embedding. CVPR, 2016",
        archives=(
            Archive(
                "Stanford_Online_Products.zip",
                url="http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
                md5="7f73d41a2f44250d4779881525aea32e",
            ),
        ),
        folders=("Stanford_Online_Products",),
    ),
    DataSet(
        name="inshop",
        title="In-Shop Clothes Retrieval (DeepFashion)",
        what="pictures of 7,982 clothing items in a shop",
        counts={
            "train": Count(25_882, 3_997),
            "query": Count(14_218, 3_985),
            "gallery": Count(12_612, 3_985),
        },
        protocol="the published list: queries search the gallery, whose items are the same and "
        "have one identity in both",
        measured="Recall@1, 10, 20, 30, 40, 50",
        licence="non-commercial",
        terms="non-commercial research and education only; an agreement must be sent for the "
        "password of the archive",
        where="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
        tree="""\
inshop/                         or In-shop Clothes Retrieval Benchmark/
  Eval/list_eval_partition.txt  image_name item_id evaluation_status
  Img/img/WOMEN/Dresses/id_00000002/*.jpg    or img_highres/, of the same names""",
        citation="Liu, Luo, Qiu, Wang, Tang: DeepFashion: Powering Robust Clothes Recognition and "
        "Retrieval with Rich Annotations. CVPR, 2016",
        archives=(Archive("img.zip", into="Img"), Archive("list_eval_partition.txt", into="Eval")),
        folders=(
            "In-shop Clothes Retrieval Benchmark",
            "In-shop_Clothes_Retrieval_Benchmark",
            "Inshop_Clothes",
        ),
    ),
    DataSet(
        name="vehicleid",
        title="PKU VehicleID",
        what="26,328 vehicles under surveillance cameras",
        counts={
            "train": Count(
                110_178,
                13_134,
                also=(113_346, 13_164),
                why="the lists that are given out were corrected after the paper",
            ),
            "small": Count(None, 800),
            "medium": Count(None, 1_600),
            "large": Count(None, 2_400),
        },
        protocol="one random picture of each vehicle of a test list is the gallery, the others "
        "are queries (seed); papers average ten draws. variant: small, medium or large list",
        measured="Recall@1, 5 on each of the three lists",
        licence="on request",
        terms="research only, not commercially; given out on request",
        where="https://www.pkuml.org/resources/pku-vehicleid.html",
        tree="""\
vehicleid/                      or VehicleID_V1.0/
  train_test_split/train_list.txt, test_list_800.txt, test_list_1600.txt, test_list_2400.txt
  image/0000001.jpg ...""",
        citation="Liu, Tian, Yang, Pang, Huang: Deep Relative Distance Learning: Tell the "
        "Difference Between Similar Vehicles. CVPR, 2016",
        archives=(Archive("VehicleID_V1.0.zip"),),
        folders=("VehicleID_V1.0", "VehicleID"),
    ),
    DataSet(
        name="market1501",
        title="Market-1501",
        what="1,501 people before six cameras",
        counts={
            "train": Count(12_936, 751),
            "query": Count(3_368, 750),
            "gallery": Count(15_913, 751),
            "junk": Count(3_819, 1),
        },
        protocol="queries search the gallery; of the 19,732 files of bounding_box_test the junk "
        "boxes (-1) are left out and the distractors (0000) stay. Its own protocol also leaves "
        "out pairs of one camera: official.market.cameras(paths) tells them",
        measured="Recall@1, 5, 10 (CMC) and mAP across cameras",
        licence="research",
        terms="not stated; research use by custom. It shows real people",
        where="https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
        tree="""\
market1501/                     or Market-1501-v15.09.15/
  bounding_box_train/0002_c1s1_000451_03.jpg ...   person_camera-sequence_frame_box
  query/
  bounding_box_test/""",
        citation="Zheng, Shen, Tian, Wang, Wang, Tian: Scalable Person Re-identification: A "
        "Benchmark. ICCV, 2015",
        archives=(Archive("Market-1501-v15.09.15.zip", md5="65005ab7d12ec1c44de4eeafe813e68a"),),
        folders=("Market-1501-v15.09.15", "Market-1501"),
    ),
    DataSet(
        name="omniglot",
        title="Omniglot",
        what="1,623 characters of 50 alphabets, 20 drawings each",
        counts={"train": Count(19_280, 964), "test": Count(13_180, 659)},
        protocol="30 background alphabets train, 20 evaluation alphabets test; alphabets are "
        'groups, so validation characters are of new alphabets. labels="alphabet" names those',
        measured="accuracy of 5- and 20-way episodes of 1 and 5 shots",
        licence="MIT",
        terms="MIT (Brenden Lake)",
        where="https://github.com/brendenlake/omniglot",
        tree="""\
omniglot/
  images_background/Latin/character01/0684_01.png ...
  images_evaluation/""",
        citation="Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through "
        "probabilistic program induction. Science 350, 2015",
        archives=(
            Archive(
                "images_background.zip",
                url=f"{_OMNIGLOT}images_background.zip",
                md5="68d2efa1b9178cc56df9314c21c6e718",
            ),
            Archive(
                "images_evaluation.zip",
                url=f"{_OMNIGLOT}images_evaluation.zip",
                md5="6b91aef0f799c5bb55b94e3f2daec811",
            ),
        ),
        folders=("omniglot-py", "Omniglot"),
        compact=Compact(
            "omniglot",
            "omniglot_105.npz",
            {"train": Count(19_280, 964), "test": Count(13_180, 659)},
            (),
            "complete, in one file",
        ),
    ),
    DataSet(
        name="miniimagenet",
        title="miniImageNet, split of Ravi and Larochelle",
        what="100 ImageNet classes of 600 pictures",
        counts={
            "train": Count(38_400, 64),
            "validation": Count(9_600, 16),
            "test": Count(12_000, 20),
        },
        protocol="the published lists, with their validation classes",
        measured="accuracy of 5-way episodes of 1 and 5 shots",
        licence="non-commercial",
        terms="the pictures are under ImageNet's terms: non-commercial research and education",
        where="https://github.com/twitter-research/meta-learning-lstm (the lists; the pictures "
        "are ImageNet's, https://image-net.org)",
        tree="""\
miniimagenet/
  train.csv, val.csv, test.csv  filename,label
  images/n0153282900000005.jpg ...""",
        citation="Vinyals et al.: Matching Networks for One Shot Learning. NeurIPS, 2016; Ravi, "
        "Larochelle: Optimization as a Model for Few-Shot Learning. ICLR, 2017",
        archives=(
            Archive("images.zip"),
            *(Archive(name) for name in ("train.csv", "val.csv", "test.csv")),
        ),
        folders=("miniImageNet", "mini-imagenet", "miniImagenet"),
    ),
    DataSet(
        name="lfw",
        title="Labeled Faces in the Wild",
        what="press photographs of 5,749 people",
        counts={"all": Count(13_233, 5_749)},
        protocol="none for learning: seeded, by person. Verification is on pairs.txt (10 folds of "
        "300 + 300). variant: original, funneled or deepfunneled, the last that is there",
        measured="accuracy on the 6,000 pairs, mean of ten folds",
        licence="research",
        terms="no licence; the publisher asks that results not be taken as fit for commercial "
        "use. It shows real people",
        where="http://vis-www.cs.umass.edu/lfw/ (often away). The download is the copy "
        "scikit-learn uses",
        tree="""\
lfw/
  lfw/  or lfw_funneled/  or lfw-deepfunneled/
    Aaron_Eckhart/Aaron_Eckhart_0001.jpg ...
  pairs.txt, pairsDevTrain.txt, pairsDevTest.txt, people.txt, lfw-names.txt   as far as you have""",
        citation="Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild. University of "
        "Massachusetts, Amherst, 07-49, 2007",
        archives=(
            Archive(
                "lfw.tgz",
                url=f"{_FIGSHARE}5976018",
                md5="a17d05bd522c52d84eca14327a23d494",
                sha256="055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
            ),
            Archive("lfw-funneled.tgz", md5="1b42dfed7d15c9b2dd63d5e5840c86ad", needed=False),
            Archive("lfw-deepfunneled.tgz", md5="68331da3eb755a505a502b5aacb3c201", needed=False),
            Archive(
                "pairs.txt",
                url=f"{_FIGSHARE}5976006",
                sha256="ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
            ),
            Archive(
                "pairsDevTrain.txt",
                url=f"{_FIGSHARE}5976012",
                sha256="1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
            ),
            Archive(
                "pairsDevTest.txt",
                url=f"{_FIGSHARE}5976009",
                sha256="7cb06600ea8b2814ac26e946201cdb304296262aad67d046a16a7ec85d0ff87c",
            ),
        ),
        folders=("lfw-py", "lfw_home"),
        compact=Compact(
            "lfw",
            "lfw_deepfunneled_crop64.zip",
            {"all": Count(13_233, 5_749)},
            ("pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt", "people.txt", "lfw-names.txt"),
            "complete, deep-funneled, cut to the face, 64 pixels",
        ),
    ),
    DataSet(
        name="mnist",
        title="MNIST",
        what="handwritten digits, 28 x 28 grey",
        counts=_TEN,
        protocol='the published halves share the ten classes; split="classes" makes new ones',
        measured="Recall@1; error of a nearest neighbour",
        licence="not stated",
        terms="not stated; free use by custom",
        where="http://yann.lecun.com/exdb/mnist/ (at times away). The download is the mirror "
        "torchvision uses",
        tree=_IDX_TREE.format(folder="mnist"),
        citation="LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document "
        "Recognition. Proceedings of the IEEE 86, 1998",
        archives=tuple(
            Archive(f"{name}-ubyte.gz", url=f"{_MNIST}{name}-ubyte.gz", md5=md5, size=size)
            for name, md5, size in (
                ("train-images-idx3", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
                ("train-labels-idx1", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
                ("t10k-images-idx3", "9fb629c4189551a2d022fa330f9573f3", 1_648_877),
                ("t10k-labels-idx1", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
            )
        ),
        folders=("MNIST",),
    ),
    DataSet(
        name="fashion_mnist",
        title="Fashion-MNIST",
        what="clothing of ten kinds, 28 x 28 grey",
        counts=_TEN,
        protocol='the published halves share the ten classes; split="classes" makes new ones',
        measured="Recall@1; error of a nearest neighbour",
        licence="MIT",
        terms="MIT (Zalando SE)",
        where="https://github.com/zalandoresearch/fashion-mnist",
        tree=_IDX_TREE.format(folder="fashion_mnist"),
        citation="Xiao, Rasul, Vollgraf: Fashion-MNIST. arXiv:1708.07747, 2017",
        archives=tuple(
            Archive(f"{name}-ubyte.gz", url=f"{_FASHION}{name}-ubyte.gz", md5=md5, size=size)
            for name, md5, size in (
                ("train-images-idx3", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
                ("train-labels-idx1", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
                ("t10k-images-idx3", "bef4ecab320f06d8554ea6380940ec79", None),
                ("t10k-labels-idx1", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
            )
        ),
        folders=("FashionMNIST", "fashion-mnist"),
    ),
    DataSet(
        name="cub200_half",
        title="CUB-200-2011, 100 classes",
        what="half of the bird species, a compact form",
        counts={},
        protocol="classes up to 100 train, the others test; not comparable with papers on CUB",
        measured="Recall@1, 2, 4, 8",
        licence="research",
        terms="as CUB-200-2011",
        where="made for tests: cub200 is the data set",
        tree="cub200_half/\n  cub200_100classes_72.zip, labels.csv",
        citation="as CUB-200-2011",
        compact=Compact(
            "cub200_half",
            "cub200_100classes_72.zip",
            {"train": Count(3_428, 58), "test": Count(2_474, 42)},
            ("labels.csv",),
            "100 of the 200 classes, cut to the bird, 72 pixels",
        ),
    ),
    DataSet(
        name="tiny_imagenet_fewshot",
        title="Tiny ImageNet, 32 pictures a class",
        what="200 ImageNet classes at 64 pixels, a compact form",
        counts={},
        protocol="120 / 30 / 50 classes, our own split",
        measured="accuracy of 5-way episodes",
        licence="non-commercial",
        terms="ImageNet's terms: non-commercial research and education",
        where="made for tests",
        tree="tiny_imagenet_fewshot/\n  tiny_imagenet_cap32.zip, classes.csv",
        citation="Deng et al.: ImageNet. CVPR, 2009",
        compact=Compact(
            "tiny_imagenet_fewshot",
            "tiny_imagenet_cap32.zip",
            {"train": Count(3_840, 120), "validation": Count(960, 30), "test": Count(1_600, 50)},
            ("classes.csv",),
            "complete",
        ),
    ),
    DataSet(
        name="orl_faces",
        title="ORL Database of Faces",
        what="40 people, ten pictures each, a compact form",
        counts={},
        protocol="none of its own: seeded, by person",
        measured="Recall@1",
        licence="not stated",
        terms='credit to "AT&T Laboratories Cambridge" is asked for',
        where="made for tests",
        tree="orl_faces/\n  orl_faces.npz",
        citation="Samaria, Harter: Parameterisation of a Stochastic Model for Human Face "
        "Identification. WACV, 1994",
        compact=Compact("orl_faces", "orl_faces.npz", {"all": Count(400, 40)}, (), "complete"),
    ),
)
CATALOGUE: Mapping[str, DataSet] = {one.name: one for one in _ENTRIES}
NAMES = tuple(CATALOGUE)


def entry(name: str) -> DataSet:
    """The entry of a name.

    Raises:
        InputError: the name is not in the catalogue.
    """
    if name not in CATALOGUE:
        raise InputError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return CATALOGUE[name]
